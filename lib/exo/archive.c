/* SPDX-License-Identifier: MIT
 *
 * The boot archive: cpio "newc" (070701), as the Linux kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst describes it. Every
 * number in it is checked against the archive's size. */
#include "exo.h"

#define ARCHIVE_FRAMES 262144 /* the room from EXO_ARCHIVE_VA on, and EXO_FILES_VA */
#define HEADER 110
#define FIELD_SIZE 54 /* eight hexadecimal digits: c_filesize */
#define FIELD_NAME 94 /* c_namesize */

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

bool exo_archive_parse(const char *archive, uint64_t size, const char *name, struct exo_file *file)
{
    uint64_t at = 0;
    while (at <= size && size - at >= HEADER && !memcmp(archive + at, "070701", 6)) {
        int64_t bytes = hex8(archive + at + FIELD_SIZE);
        int64_t length = hex8(archive + at + FIELD_NAME);
        if (bytes < 0 || length < 1 || (uint64_t)length > size - at - HEADER) return false;
        const char *entry = archive + at + HEADER;
        uint64_t data = (at + HEADER + (uint64_t)length + 3) & ~3ul;
        if (entry[length - 1] || data > size || (uint64_t)bytes > size - data) return false;
        if (!strcmp(entry[0] == '.' && entry[1] == '/' ? entry + 2 : entry, name)) {
            *file = (struct exo_file){archive + data, (uint64_t)bytes};
            return true;
        }
        at = (data + (uint64_t)bytes + 3) & ~3ul;
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
