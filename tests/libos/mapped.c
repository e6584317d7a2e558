/* SPDX-License-Identifier: MIT
 *
 * One file, of which two processes in turn make random shared mappings, which they read and write
 * through, beside read, write, truncation and holes: a model says what each page must have, and
 * where a touch must end in SIGBUS. */
#include <setjmp.h>
#include <sys/mman.h>
#include "test.h"

#define PAGE 4096l
#define PAGES 400u
#define MAPPINGS 12u
#define ROUNDS 120
#define STEPS 8 /* of each process in a round */

static struct model {
    uint64_t value[PAGES]; /* in the first and last word of a page */
    uint32_t pages; /* of the file */
    uint32_t bad;
} * model; /* of both */
static struct mapping {
    char *at; /* NULL: none */
    uint32_t first, n;
} mappings[MAPPINGS];
static int file;
static uint64_t state;
static sigjmp_buf after_fault;

static uint32_t dice(uint32_t n) { return (uint32_t)(random_next(&state) >> 20) % n; }
static uint64_t value_new(void) { return (uint64_t)getpid() << 32 | dice(1u << 30) | 1; }

static void faulted(int signal)
{
    (void)signal;
    siglongjmp(after_fault, 1);
}

static void wrong(const char *what, uint32_t page, uint64_t got)
{
    if (model->bad++ < 5)
        dprintf(1, "%s: page %u of %u has %lx\n", what, page, model->pages, (unsigned long)got);
}

static void touch(const struct mapping *m, bool write)
{
    uint32_t k = dice(m->n), page = m->first + k;
    volatile uint64_t *words = (volatile uint64_t *)(m->at + k * PAGE);
    if (sigsetjmp(after_fault, 1)) {
        if (page < model->pages) wrong("SIGBUS", page, 0);
        return;
    }
    uint64_t value = words[write || dice(2) ? 0 : 511];
    if (page >= model->pages)
        wrong("no SIGBUS", page, value);
    else if (value != model->value[page])
        wrong("mapped", page, value);
    if (write && page < model->pages) words[0] = words[511] = model->value[page] = value_new();
}

static void map_any(struct mapping *m)
{
    if (m->at) {
        munmap(m->at, m->n * (size_t)PAGE);
        m->at = NULL;
        return;
    }
    m->first = dice(PAGES - 1);
    m->n = 1 + dice(PAGES - m->first < 100 ? PAGES - m->first : 100);
    m->at =
        mmap(NULL, m->n * (size_t)PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, m->first * PAGE);
    if (m->at == MAP_FAILED) {
        wrong("mmap", m->first, 0);
        m->at = NULL;
    }
}

static void resize(uint32_t pages)
{
    for (uint32_t p = model->pages; p < pages; p++)
        model->value[p] = 0;
    model->pages = pages;
}

static void write_any(void)
{
    uint64_t words[512] = {0};
    uint32_t page = dice(PAGES);
    if (dice(3) && page >= model->pages) return;
    words[0] = words[511] = value_new();
    if (pwrite(file, words, sizeof words, page * PAGE) != PAGE) wrong("pwrite", page, 0);
    if (page >= model->pages) resize(page + 1);
    model->value[page] = words[0];
}

static void read_any(void)
{
    uint64_t words[512];
    uint32_t page = dice(PAGES);
    ssize_t n = pread(file, words, sizeof words, page * PAGE);
    if (n != (page < model->pages ? PAGE : 0))
        wrong("pread", page, 0);
    else if (n && (words[0] != model->value[page] || words[511] != model->value[page]))
        wrong("read", page, words[0]);
}

static void truncate_any(void)
{
    uint32_t few = model->pages < 20 ? model->pages : 20;
    uint32_t pages = dice(2) ? dice(PAGES + 1) : model->pages - dice(few + 1);
    if (ftruncate(file, pages * PAGE) < 0) wrong("ftruncate", pages, 0);
    resize(pages);
}

static void punch_any(void)
{
    uint32_t first = dice(PAGES), n = 1 + dice(30);
    if (first + n > model->pages) return;
    if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first * PAGE, n * PAGE) < 0)
        wrong("fallocate", first, 0);
    memset(model->value + first, 0, n * sizeof model->value[0]);
}

static void step(void)
{
    struct mapping *m = &mappings[dice(MAPPINGS)];
    uint32_t what = dice(11);
    if (what < 2) map_any(m);
    if (what == 2) write_any();
    if (what == 3) read_any();
    if (what == 4) truncate_any();
    if (what == 5) punch_any();
    if (what == 6 && m->at && dice(2)) madvise(m->at, m->n * (size_t)PAGE, MADV_DONTNEED);
    for (int i = 0; what > 6 && m->at && i < 30; i++)
        touch(m, what > 8);
}

/* The child's turn follows each of ours. */
static void child_run(int turn, int done)
{
    char byte;
    state += (uint64_t)getpid();
    while (read(turn, &byte, 1) == 1) {
        for (int i = 0; i < STEPS; i++)
            step();
        if (write(done, &byte, 1) != 1) _exit(1);
    }
    _exit(0);
}

static bool run(uint64_t seed)
{
    int turn[2], done[2], status;
    char byte = 0;
    state = seed * 0x9e3779b97f4a7c15ul;
    *model = (struct model){0};
    file = open("mapped", O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0 || pipe(turn) < 0 || pipe(done) < 0) return false;
    for (int i = 0; i < ROUNDS * STEPS; i++)
        step();
    pid_t pid = fork(); /* which has our mappings, too */
    if (pid == 0) {
        close(turn[1]);
        child_run(turn[0], done[1]);
    }
    for (int i = 0; i < ROUNDS; i++) {
        for (int k = 0; k < STEPS; k++)
            step();
        if (write(turn[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1) break;
    }
    close(turn[1]);
    bool good = waitpid(pid, &status, 0) == pid && status == 0 && !model->bad;
    for (unsigned i = 0; i < MAPPINGS; i++)
        if (mappings[i].at) map_any(&mappings[i]);
    close(turn[0]);
    close(done[0]);
    close(done[1]);
    close(file);
    return good;
}

int main(void)
{
    struct sigaction action = {.sa_handler = faulted};
    test_begin("mapped");
    test_directory();
    sigaction(SIGBUS, &action, NULL);
    model = mmap(NULL, sizeof *model, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (unsigned seed = 1; seed <= 8; seed++) {
        char name[16];
        snprintf(name, sizeof name, "seed_%u", seed);
        CHECK(name, run(seed));
    }
    return test_end();
}
