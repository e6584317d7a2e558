/* SPDX-License-Identifier: MIT
 *
 * The boot archive: cpio "newc" (070701), as the Linux kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst describes it. Every
 * number in it is checked against the archive's size. */
#include "exo.h"

#define ARCHIVE_FRAMES 262144 /* the room from EXO_ARCHIVE_VA on, and EXO_FILES_VA */
#define HEADER 110

/* Eight hexadecimal digits, or -1. */
static int64_t hex8(const char *at)
{
    int64_t value = 0;
    for (int i = 0; i < 8; i++) {
        char c = at[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

bool exo_archive_next(const char *archive, uint64_t size, uint64_t *at,
                      struct exo_archive_entry *entry)
{
    if (*at > size || size - *at < HEADER || memcmp(archive + *at, "070701", 6)) return false;
    for (unsigned i = 0; i < EXO_COUNT(entry->field); i++) {
        int64_t value = hex8(archive + *at + 6 + 8ul * i);
        if (value < 0) return false;
        entry->field[i] = (uint32_t)value;
    }
    uint64_t bytes = entry->field[EXO_CPIO_SIZE], length = entry->field[EXO_CPIO_NAME];
    if (length < 1 || length > size - *at - HEADER) return false;
    entry->name = archive + *at + HEADER;
    uint64_t data = (*at + HEADER + length + 3) & ~3ul;
    if (entry->name[length - 1] || data > size || bytes > size - data) return false;
    if (entry->name[0] == '.' && entry->name[1] == '/') entry->name += 2;
    entry->file = (struct exo_file){archive + data, bytes};
    *at = (data + bytes + 3) & ~3ul;
    return true;
}

bool exo_archive_parse(const char *archive, uint64_t size, const char *name, struct exo_file *file)
{
    struct exo_archive_entry entry;
    uint64_t at = 0;
    while (exo_archive_next(archive, size, &at, &entry))
        if (!strcmp(entry.name, name)) {
            *file = entry.file;
            return true;
        }
    return false;
}

/* Looks in one archive, which lies at va once it is mapped. */
static long archive_look(const struct exo_range *range, uint64_t bytes, uint64_t va, bool *mapped,
                         const char *name, struct exo_file *file)
{
    if (!range->sel || !range->count) return -EXO_E_SEL;
    if (range->count > ARCHIVE_FRAMES) return -EXO_E_LIMIT;
    if (!*mapped) {
        long r = exo_bind(&exo.pool, va, range->count, range->sel, range->first, EXO_R);
        if (r < 0) return r;
        *mapped = true;
    }
    return exo_archive_parse((const char *)va, bytes, name, file) ? 0 : -EXO_E_NONE;
}

long exo_archive_find(const char *name, const void **data, size_t *size)
{
    static bool files, archive;
    struct exo_file file;
    long own =
        archive_look(&exo.start.files, exo.start.files_bytes, EXO_FILES_VA, &files, name, &file);
    long r = own;
    if (own == -EXO_E_SEL || own == -EXO_E_NONE)
        r = archive_look(&exo.start.archive, exo.start.archive_bytes, EXO_ARCHIVE_VA, &archive,
                         name, &file);
    if (r == -EXO_E_SEL) r = own; /* the boot archive was not given */
    if (r < 0) return r;
    *data = file.data;
    *size = file.size;
    return 0;
}
