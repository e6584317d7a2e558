/* SPDX-License-Identifier: MIT
 *
 * root's two parsers, of the configuration and of the boot archive, on this machine:
 * what they accept, what they refuse, and that no input makes them read or write outside
 * (each input lies in memory of exactly its size, watched by the sanitizers). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../root/root.h"
#undef main

#include "../../lib/exo/archive.c"
#include "../../root/config.c"

#define MUTATIONS 100000

/* What libexo has in the system. */
static unsigned printed;
int exo_printf(const char *format, ...)
{
    printed += format[0] != 0;
    return 0;
}
struct exo exo;
long exo_bind(struct exo_pool *pool, uint64_t va, uint64_t n, uint32_t sel, uint64_t frame,
              unsigned rights)
{
    (void)pool, (void)va, (void)n, (void)sel, (void)frame, (void)rights;
    return -EXO_E_RANGE; /* no address space of ours here */
}

#include "unit.h"

/* ---- the configuration ------------------------------------------------------------------ */

/* Reads a copy that ends where its memory ends. */
static void read_config(struct root_config *config, const char *text, size_t size)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, text, size);
    memset(config, 0, sizeof(*config));
    config_read(config, copy, size);
    free(copy);
}

static void config_is_sane(const struct root_config *config)
{
    EXPECT(config->count <= ROOT_PROGRAMS);
    for (uint32_t i = 0; i < config->count && i < ROOT_PROGRAMS; i++) {
        const struct root_program *p = &config->programs[i];
        EXPECT(p->name[0] && memchr(p->name, 0, sizeof(p->name)));
        EXPECT(p->file[0] && memchr(p->file, 0, sizeof(p->file)));
        EXPECT(memchr(p->args, 0, sizeof(p->args)) != NULL);
        EXPECT(p->memory >= MEMORY_LEAST && p->memory <= MEMORY_MOST);
        EXPECT(p->cpu < EXO_MAX_CPUS && p->slots <= EXO_SLOTS_PER_CPU);
        EXPECT(p->slots_other <= EXO_SLOTS_PER_CPU && p->nports <= ROOT_PORTS);
        EXPECT(p->selectors >= 64 && p->selectors <= EXO_SELECTORS);
        for (uint32_t k = 0; k < p->nports && k < ROOT_PORTS; k++)
            EXPECT(p->ports[k].first <= p->ports[k].last && p->ports[k].last <= 0xffff);
    }
    EXPECT(config->nchannels <= ROOT_CHANNELS);
    for (uint32_t i = 0; i < config->nchannels && i < ROOT_CHANNELS; i++) {
        const struct root_channel *c = &config->channels[i];
        EXPECT(c->side[0][0] && c->side[1][0] && strcmp(c->side[0], c->side[1]));
        EXPECT(c->size >= EXO_PAGE && c->size <= EXO_CHANNEL_RING_MAX);
        for (int k = 0; k < 2; k++)
            EXPECT(memchr(c->side[k], 0, 32) && memchr(c->tag[k], 0, 16));
    }
    EXPECT(config->shutdown_port <= 0xffff && config->shutdown_value <= 0xffff);
}

static const char good[] =
    "# a comment\n\n"
    "program one\n"
    "program two file=f cpu=31 memory=3M block=512M loan=64M borrow=yes slots=64 slots-other=0 "
    "selectors=1024 "
    "console=yes "
    "tables=no irqs=yes wait=yes ports=60-64,70,3f8-0x3ff args=a b=c  memory=9Z\r\n"
    "\tprogram  three\tmemory=262144   # a comment\n"
    "channel one two\n"
    "channel two three tag=net0 peer-tag=net1 size=1M\n"
    "channel four one peer-tag=other size=4096 tag=abcdefghijklmno\n"
    "shutdown 604 2000 2\n"
    "program four memory=64G archive=yes";

static void test_config_good(void)
{
    static struct root_config c;
    read_config(&c, good, sizeof(good) - 1);
    const struct root_program *p = c.programs;
    EXPECT(c.errors == 0 && c.count == 4);
    EXPECT(!strcmp(p[0].name, "one") && !strcmp(p[0].file, "one") && p[0].line == 3);
    EXPECT(p[0].memory == MEMORY_DEFAULT && !p[0].console && !p[0].wait && !p[0].nports);
    EXPECT(!strcmp(p[1].file, "f") && p[1].cpu == 31 && p[1].memory == 3 << 20);
    EXPECT(p[1].block == 512 << 20 && p[0].block == 0);
    EXPECT(p[1].loan == 64 << 20 && p[1].borrow && p[0].loan == 0 && !p[0].borrow);
    EXPECT(p[1].slots == 64 && p[1].selectors == 1024 && p[1].console && !p[1].tables);
    EXPECT(p[1].irqs && p[1].wait && p[1].nports == 3);
    EXPECT(p[1].ports[0].first == 0x60 && p[1].ports[0].last == 0x64);
    EXPECT(p[1].ports[1].first == 0x70 && p[1].ports[1].last == 0x70);
    EXPECT(p[1].ports[2].first == 0x3f8 && p[1].ports[2].last == 0x3ff);
    EXPECT(!strcmp(p[1].args, "a b=c  memory=9Z"));
    EXPECT(!strcmp(p[2].name, "three") && p[2].memory == 262144);
    EXPECT(p[3].memory == 64ul << 30 && p[3].archive && !p[2].archive);
    const struct root_channel *ch = c.channels;
    EXPECT(c.nchannels == 3 && ch[0].line == 6 && ch[0].size == 65536);
    EXPECT(!strcmp(ch[0].side[0], "one") && !strcmp(ch[0].side[1], "two") && !ch[0].tag[0][0]);
    EXPECT(!strcmp(ch[1].tag[0], "net0") && !strcmp(ch[1].tag[1], "net1") && ch[1].size == 1 << 20);
    EXPECT(!strcmp(ch[2].tag[0], "abcdefghijklmno") && !strcmp(ch[2].tag[1], "other"));
    EXPECT(c.shutdown_port == 0x604 && c.shutdown_value == 0x2000 && c.shutdown_size == 2);
    config_is_sane(&c);
}

/* Each is one line that is refused and left out, and the line after it is read. */
static const char *const bad[] = {
    "programm x",
    "program",
    "program ",
    "program abcdefghijklmnopqrstuvwxyzabcdef",
    "program first",
    "program x console",
    "program x console=",
    "program x console=maybe",
    "program x =yes",
    "program x =",
    "program x unknown=1",
    "program x cpu=32",
    "program x cpu=-1",
    "program x cpu=1x",
    "program x cpu=",
    "program x cpu=18446744073709551616",
    "program x cpu=4294967296",
    "program x memory=1",
    "program x memory=255K",
    "program x memory=65G",
    "program x memory=65537M",
    "program x memory=68719476737",
    "program x memory=99999999999999999999",
    "program x memory=18014398509481984K",
    "program x memory=4MM",
    "program x memory=M",
    "program x memory=4T",
    "program x block=3M",
    "program x block=128G",
    "program x block=",
    "program x loan=32M",
    "program x loan=96M",
    "program x borrow=1",
    "program x slots=65",
    "program x selectors=63",
    "program x selectors=1025",
    "program x ports=",
    "program x ports=10000",
    "program x ports=ffff-10000",
    "program x ports=64-60",
    "program x ports=60-",
    "program x ports=-60",
    "program x ports=60,",
    "program x ports=60;61",
    "program x ports=1,2,3,4,5",
    "program x ports=0x",
    "program x file=",
    "program x file=abcdefghijklmnopqrstuvwxyzabcdef",
    "program x archive=1",
    "channel",
    "channel a",
    "channel a a",
    "channel a b c",
    "channel a b tag",
    "channel a b tag=",
    "channel a b tag=abcdefghijklmnop",
    "channel a b size=2K",
    "channel a b size=2M",
    "channel a b size=12K",
    "channel a abcdefghijklmnopqrstuvwxyzabcdef",
    "shutdown",
    "shutdown 604",
    "shutdown 604 2000",
    "shutdown 604 2000 3",
    "shutdown 10000 2000 2",
    "shutdown 604 2000 2x",
    "shutdown x y z",
};

static void test_config_bad(void)
{
    static struct root_config c;
    char text[256];
    for (size_t i = 0; i < EXO_COUNT(bad); i++) {
        int n = snprintf(text, sizeof(text), "program first\n%s\nprogram last\n", bad[i]);
        printed = 0;
        read_config(&c, text, (size_t)n);
        if (c.errors != 1 || printed != 1 || c.count != 2 || c.nchannels || c.shutdown_port ||
            strcmp(c.programs[1].name, "last") || c.programs[1].line != 3) {
            printf("  accepted, or not by itself: '%s'\n", bad[i]);
            failures++;
        }
    }
}

static void test_config_long(void)
{
    static struct root_config c;
    static char text[4096];
    int n = 0;
    for (int i = 0; i < ROOT_PROGRAMS + 3; i++)
        n += snprintf(text + n, sizeof(text) - (size_t)n, "program p%d\n", i);
    read_config(&c, text, (size_t)n);
    EXPECT(c.count == ROOT_PROGRAMS && c.errors == 3);
    for (size_t length = 500; length < 520; length++) { /* around the longest line */
        n = snprintf(text, sizeof(text), "program x args=");
        memset(text + n, 'a', length - (size_t)n);
        memcpy(text + length, "\nprogram y\n", 11);
        read_config(&c, text, length + 11);
        EXPECT(c.errors == 1 && c.count == 1 && !strcmp(c.programs[0].name, "y"));
    }
    for (size_t length = 250; length < 260; length++) { /* around the longest args */
        n = snprintf(text, sizeof(text), "program x args=");
        memset(text + n, 'a', length);
        read_config(&c, text, (size_t)n + length);
        EXPECT(c.count == (length < 256) && c.errors == (length >= 256));
        EXPECT(!c.count || strlen(c.programs[0].args) == length);
    }
    memset(text, 0, sizeof(text));
    read_config(&c, text, sizeof(text));
    EXPECT(c.count == 0);
    read_config(&c, text, 0);
    EXPECT(c.count == 0 && c.errors == 0);
}

/* Bytes that the grammar means something by, and any others. */
static char any_byte(void)
{
    static const char meant[] = "=\n\r\t #-,0169fxKMG.programshutdown\0\xff";
    return next(4) ? meant[next(sizeof(meant))] : (char)next(256);
}

static void test_config_mutated(void)
{
    static struct root_config c;
    char text[sizeof(good)];
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(text, good, sizeof(good));
        size_t size = next(8) ? sizeof(good) - 1 : next(sizeof(good));
        for (uint64_t n = 1 + next(6); n && size; n--)
            text[next(size)] = any_byte();
        read_config(&c, text, size);
        config_is_sane(&c);
    }
}

/* ---- the archive ------------------------------------------------------------------------------ */
#define ARCHIVE_MAX 4096
static char archive[ARCHIVE_MAX];
static size_t archive_size;

static void archive_add(const char *name, const char *data, size_t size)
{
    int n = snprintf(archive + archive_size, ARCHIVE_MAX - archive_size,
                     "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s", 1, 0100644,
                     0, 0, 1, 0, size, 0, 0, 0, 0, strlen(name) + 1, 0, name);
    size_t at = (archive_size + (size_t)n + 1 + 3) & ~3ul;
    memset(archive + archive_size + n, 0, at - archive_size - (size_t)n);
    memcpy(archive + at, data, size);
    archive_size = (at + size + 3) & ~3ul;
    memset(archive + at + size, 0, archive_size - at - size);
}

static void archive_make(void)
{
    archive_size = 0;
    archive_add("root", "\177ELF program", 12);
    archive_add("./config", "program x\n", 10);
    archive_add("empty", "", 0);
    archive_add("odd", "abc", 3);
    archive_add("TRAILER!!!", "", 0);
}

/* Looks in a copy of `size` bytes of the archive; what is found lies inside of it. */
static bool find(const char *name, size_t size, struct exo_file *file)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, archive, size);
    bool found = exo_archive_parse(copy, size, name, file);
    if (found) {
        EXPECT(file->data >= copy && file->size <= size);
        EXPECT((size_t)(file->data - copy) <= size - file->size);
        static volatile char sum; /* the sanitizer looks at every byte of it */
        for (uint64_t i = 0; i < file->size; i++)
            sum += file->data[i];
        file->data = archive + (file->data - copy);
    }
    free(copy);
    return found;
}

static void test_archive_good(void)
{
    struct exo_file f;
    archive_make();
    EXPECT(find("config", archive_size, &f) && f.size == 10 && !memcmp(f.data, "program x\n", 10));
    EXPECT(find("root", archive_size, &f) && f.size == 12);
    EXPECT(find("empty", archive_size, &f) && f.size == 0);
    EXPECT(find("odd", archive_size, &f) && f.size == 3 && !memcmp(f.data, "abc", 3));
    EXPECT(!find("conf", archive_size, &f));
    EXPECT(!find("configs", archive_size, &f));
    EXPECT(!find("", archive_size, &f));
    EXPECT(!find("./config", archive_size, &f));
}

/* Cut off anywhere: what is whole is found, what is not is not. */
static void test_archive_cut(void)
{
    struct exo_file f;
    archive_make();
    find("odd", archive_size, &f);
    size_t end = (size_t)(f.data - archive) + f.size;
    for (size_t size = 0; size <= archive_size; size++)
        EXPECT(find("odd", size, &f) == (size >= end));
}

/* Offsets of a header's fields: six bytes of magic, then eight digits each. */
#define FIELD_SIZE (6 + 8 * EXO_CPIO_SIZE)
#define FIELD_NAME (6 + 8 * EXO_CPIO_NAME)
static void field_set(size_t entry, size_t field, const char *digits)
{
    memcpy(archive + entry + field, digits, 8);
}

static void test_archive_lies(void)
{
    static const char *const lies[] = {"ffffffff", "80000000", "7fffffff", "00001000",
                                       "fffffff0", "0000 000", "-0000001", "0x000001"};
    struct exo_file f;
    for (size_t i = 0; i < EXO_COUNT(lies); i++) {
        archive_make();
        field_set(0, FIELD_SIZE, lies[i]);
        EXPECT(!find("config", archive_size, &f) && !find("root", archive_size, &f));
        archive_make();
        field_set(0, FIELD_NAME, lies[i]);
        EXPECT(!find("config", archive_size, &f) && !find("root", archive_size, &f));
    }
    archive_make();
    field_set(0, FIELD_NAME, "00000000"); /* not even its end */
    EXPECT(!find("root", archive_size, &f));
    archive_make();
    field_set(0, FIELD_NAME, "00000004"); /* the name does not end */
    EXPECT(!find("root", archive_size, &f) && !find("config", archive_size, &f));
    archive_make();
    memcpy(archive, "070702", 6); /* with checksums: not ours */
    EXPECT(!find("root", archive_size, &f));
}

static void test_archive_mutated(void)
{
    struct exo_file f;
    for (int i = 0; i < MUTATIONS; i++) {
        archive_make();
        for (uint64_t n = 1 + next(5); n; n--) {
            static const char meant[] = "0123456789abcdefF\0 ";
            uint64_t at = next(4) ? next(4) * 128 + FIELD_SIZE + next(48) : next(archive_size);
            archive[at % archive_size] = next(4) ? meant[next(sizeof(meant))] : (char)next(256);
        }
        size_t size = next(4) ? archive_size : next(archive_size + 1);
        find("config", size, &f);
        find("odd", size, &f);
        find("nothing", size, &f);
    }
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"config: every option", test_config_good},
        {"config: lines that are refused", test_config_bad},
        {"config: long lines, many programs", test_config_long},
        {"config: mutated", test_config_mutated},
        {"archive: files found", test_archive_good},
        {"archive: cut off", test_archive_cut},
        {"archive: numbers that lie", test_archive_lies},
        {"archive: mutated", test_archive_mutated},
    };
    return TESTS_RUN("root", tests);
}
