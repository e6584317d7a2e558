/* SPDX-License-Identifier: MIT
 *
 * linuxd's copies of programs' text, with jumps in place of `syscall`s: what is in them, that the
 * file keeps its bytes, when they go, and reports that are wrong. (What site_plan decides:
 * test_linux_site.c.) */
#include "lx_files.h"

#define SIZE (3 * 4096)
#define SITE 0x1805u /* of the `syscall`; the instruction before it has five bytes */

#define STUBS 0x6000 /* behind the last segment */

static uint8_t code[SIZE];
static struct process_memory memory;

/* A program of two segments: the file, to be executed, and memory. */
static void header_make(void)
{
    const Elf64_Phdr segment[2] = {{.p_type = PT_LOAD,
                                    .p_flags = PF_R | PF_X,
                                    .p_vaddr = 0x400000,
                                    .p_filesz = SIZE,
                                    .p_memsz = SIZE},
                                   {.p_type = PT_LOAD,
                                    .p_flags = PF_R | PF_W,
                                    .p_vaddr = 0x404100,
                                    .p_offset = 0x100,
                                    .p_memsz = 0x1234}};
    const Elf64_Ehdr header = {
        .e_phoff = sizeof(header), .e_phentsize = sizeof(segment[0]), .e_phnum = 2};
    memcpy(code, &header, sizeof(header));
    memcpy(code + sizeof(header), segment, sizeof(segment));
}

static void world_start(void)
{
    memset(entry_buckets, 0, sizeof(entry_buckets));
    host_process(0);
    EXPECT(files_start(NULL, 0) == 0);
    fds_init(&processes[0]);
    processes[0].memory = &memory;
    processes[1].memory = NULL;
    memset(code, 0x90, sizeof(code)); /* NOP */
    header_make();
    memcpy(code + SITE - 5, "\xb8\x27\0\0\0\x0f\x05\xc3", 8); /* mov $39, %eax; syscall; ret */
}

/* A file with the code, open, is what handle h is of. */
static struct file *file_make(const char *path, unsigned h)
{
    uint64_t fd = (uint64_t)open_path(path, O_RDWR | O_CREAT, 0755);
    EXPECT(CALL(write, fd, POINTER(code), SIZE) == SIZE);
    struct file *file = memory.handle[h] = processes[0].fds[fd].file;
    if (h >= memory.handles) memory.handles = h + 1;
    file_get(file);
    CALL(close, fd);
    return file;
}

static void file_leave(unsigned h)
{
    file_put(memory.handle[h]);
    memory.handle[h] = NULL;
}

static long report(unsigned h, uint64_t site)
{
    return op_site(host_thread(0), (const uint64_t[6]){h, site});
}

static bool file_same(const char *path)
{
    static char bytes[SIZE + 1];
    return read_all(path, bytes, sizeof(bytes)) == SIZE && memcmp(bytes, code, SIZE) == 0;
}

static int32_t distance(const uint8_t *at)
{
    int32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static void test_copy(void)
{
    world_start();
    struct file *file = file_make("/one", 0);
    EXPECT(!rewritten_stubs(file) && rewritten_frame(file, 1, 77) == 77);
    EXPECT(report(0, SITE) == 0 && rewritten_frame(file, 0, 77) == 77);
    uint32_t frame = rewritten_frame(file, 1, 77), stubs = rewritten_stubs(file);
    EXPECT(frame != 77 && stubs && file_same("/one") && pages_all == 2);
    const uint8_t *page = page_data(frame), *stub = (uint8_t *)page_data(stubs) + STUB_SIZE;
    EXPECT(memcmp(page, code + 4096, SITE % 4096 - 5) == 0);
    EXPECT(memcmp(page + SITE % 4096, code + SITE, SIZE - 4096 - SITE) == 0);
    EXPECT(page[SITE % 4096 - 5] == 0xe9 &&
           (int)SITE + distance(page + SITE % 4096 - 4) == STUBS + STUB_SIZE);
    EXPECT(memcmp(stub, code + SITE - 5, 5) == 0 && *(uint64_t *)page_data(stubs) == LX_LIB_CALL);
    EXPECT(report(0, SITE) == 0 && pages_all == 2);
    file_leave(0);
    EXPECT(CALL(unlink, PATH("/one")) == 0 && pages_all == 0);
}

static void test_wrong(void)
{
    world_start();
    struct file *file = file_make("/one", 0);
    EXPECT(report(1, SITE) == -EBADF && report(~0u, SITE) == -EBADF);
    EXPECT(report(0, SITE - 1) == -EINVAL && report(0, SITE + 1) == -EINVAL);
    EXPECT(report(0, SIZE) == -EINVAL && report(0, ~0ul) == -EINVAL && report(0, 0) == -EINVAL);
    EXPECT(report(0, SIZE - 1) == -EINVAL && rewritten_frame(file, 1, 77) == 77);
    memory.handle[1] = processes[0].fds[open_path("/dev/null", O_RDONLY, 0)].file;
    EXPECT(report(1, SITE) == -EINVAL);
    memory.handle[1] = NULL;
    file_leave(0);
    code[offsetof(Elf64_Ehdr, e_phnum) + 1] = 1; /* 258 of them */
    file_make("/two", 0);
    EXPECT(report(0, SITE) == -ENOMEM);
    file_leave(0);
    EXPECT(pages_all == 1 && CALL(unlink, PATH("/one")) == 0 && pages_all == 0);
}

/* Who changes the file: nobody gets copies any more, and who has some keeps them. */
static void test_changed(void)
{
    static const char *const names[] = {"/written", "/cut", "/mapped"};
    for (unsigned i = 0; i < EXO_COUNT(names); i++) {
        world_start();
        struct file *file = file_make(names[i], 0);
        EXPECT(report(0, SITE) == 0 && rewritten_stubs(file));
        uint64_t fd = (uint64_t)open_path(names[i], O_RDWR, 0);
        uint32_t frame;
        if (i == 0) EXPECT(CALL(pwrite64, fd, POINTER("x"), 1, 5) == 1);
        if (i == 1) EXPECT(CALL(ftruncate, fd, SIZE - 1) == 0);
        if (i == 2) EXPECT(file_pages(processes[0].fds[fd].file, 0, 1, &frame, true) == 1);
        EXPECT(rewritten_stubs(file) && rewritten_frame(file, 1, 77) == 77 && pages_all == 2);
        EXPECT(report(0, SITE) == -EINVAL);
        CALL(close, fd);
        file_leave(0);
        EXPECT(CALL(unlink, PATH(names[i])) == 0 && pages_all == 0);
    }
}

/* More files than there is room for: those that nobody executes make room. */
static void test_many(void)
{
    char name[32];
    world_start();
    for (unsigned i = 0; i < 2 * FILES; i++) {
        snprintf(name, sizeof(name), "/file%u", i);
        struct file *file = file_make(name, i < FILES / 2 ? i : FILES / 2);
        EXPECT(report(i < FILES / 2 ? i : FILES / 2, SITE) == 0 && rewritten_stubs(file));
        if (i >= FILES / 2) file_leave(FILES / 2);
    }
    EXPECT(pages_all == 2 * FILES);
    for (unsigned i = 0; i < FILES / 2; i++)
        EXPECT(rewritten_stubs(memory.handle[i]));
    for (unsigned i = FILES / 2; i < FILES; i++) {
        snprintf(name, sizeof(name), "/more%u", i);
        file_make(name, i);
        EXPECT(report(i, SITE) == 0);
    }
    struct process_memory other = {.handle = {memory.handle[FILES - 1]}, .handles = 1};
    processes[1].memory = &other; /* of all files somebody has pages */
    file_make("/last", FILES - 1);
    EXPECT(report(FILES - 1, SITE) == -ENOMEM && pages_all == 2 * FILES);
    processes[1].memory = NULL;
    EXPECT(report(FILES - 1, SITE) == 0 && pages_all == 2 * FILES);
}

static void test_random(void)
{
    world_start();
    for (unsigned round = 0; round < 300; round++) {
        for (unsigned i = 0; i < SIZE; i++)
            code[i] =
                next(3) ? (uint8_t)next(256) : (uint8_t) "\x0f\x05\x90\xb8\xc3\xcc\0\x48"[next(8)];
        for (unsigned i = 0; i < 200; i++)
            memcpy(code + next(SIZE - 8), "\xb8\x27\0\0\0\x0f\x05", 7);
        if (round % 4) header_make();
        struct file *file = file_make("/random", 0);
        for (uint64_t site = 0; site < SIZE; site++)
            if (code[site] == 0x0f) report(0, site);
        EXPECT(file_same("/random") && pages_all <= 4);
        for (unsigned i = 0; i < 3; i++) {
            uint32_t frame = rewritten_frame(file, i, 0);
            unsigned changed = 0;
            for (unsigned k = 0; frame && k < 4096; k++)
                changed += ((uint8_t *)page_data(frame))[k] != code[i * 4096 + k];
            EXPECT(changed <= 18 * TEXT_SITES);
        }
        file_leave(0);
        EXPECT(CALL(unlink, PATH("/random")) == 0 && pages_all == 0);
    }
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"a copy, and the file", test_copy}, {"reports that are wrong", test_wrong},
        {"files that change", test_changed}, {"random code", test_random},
        {"many files", test_many},
    };
    return TESTS_RUN("linuxd rewritten", tests);
}
