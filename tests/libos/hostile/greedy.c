/* SPDX-License-Identifier: MIT
 *
 * Programs that open, or lock, as much as they can and stay: many of them together leave their
 * neighbours what these need. */
#include <sys/prctl.h>
#include <sys/wait.h>
#include "hostile.h"

#define GREEDY 14 /* processes; each may have 1,024 files: more than there are */
#define FILES 12 /* that a neighbour needs */
#define LOCKS 3
#define PAGES_OUT 32
#define PR_EXO_REPLACE 0x45584f01 /* libos/linux/library/replace.h */
#define MANY 200 /* locks that each wants */

static int lock_file;
static bool exovisor; /* the system gives up pages */

static void open_all(void)
{
    while (open("greedy", O_RDONLY | O_CREAT, 0600) >= 0)
        ;
}

/* One byte in two, so that no two of them join. */
static int lock_some(unsigned from, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct flock lock = {.l_type = F_WRLCK, .l_start = from + 2 * i, .l_len = 1};
        if (fcntl(lock_file, F_SETLK, &lock) < 0) return -1;
    }
    return 0;
}

static unsigned greedy_number;
static void lock_all(void) { lock_some(greedy_number * 2 * MANY + 100, MANY); }

static bool opens_well(void)
{
    int fd[FILES];
    bool good = true;
    for (unsigned i = 0; i < FILES; i++)
        good &= (fd[i] = open("greedy", O_RDONLY | O_CREAT, 0600)) >= 0;
    for (unsigned i = 0; i < FILES; i++)
        close(fd[i]);
    return good;
}

static bool locks_well(void)
{
    struct flock all = {.l_type = F_UNLCK};
    bool good = lock_some(0, LOCKS) == 0;
    return fcntl(lock_file, F_SETLK, &all) == 0 && good;
}

/* Pages that are given up: of zeroes, which take no memory, one after the other, until one stays. */
static void page_out_all(void)
{
    size_t size = 64ul << 20;
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (size_t i = 0; at != MAP_FAILED && i < size; i += 4096) {
        at[i] = 0;
        unsigned char there = 1;
        madvise(at + i, 4096, MADV_PAGEOUT);
        if (mincore(at + i, 4096, &there) < 0 || there & 1) break;
    }
}

/* Whether pages that are given up go somewhere (Linux without swap keeps them), and come back. */
static bool page_out_well(void)
{
    unsigned char there[PAGES_OUT];
    static char memory[PAGES_OUT][4096] __attribute__((aligned(4096)));
    bool good = true;
    unsigned stay = 0;
    for (unsigned i = 0; i < PAGES_OUT; i++)
        memory[i][i] = (char)(i + 1);
    madvise(memory, sizeof memory, MADV_PAGEOUT);
    good &= mincore(memory, sizeof memory, there) == 0;
    for (unsigned i = 0; i < PAGES_OUT; i++)
        stay += there[i] & 1;
    for (unsigned i = 0; i < PAGES_OUT; i++)
        good &= memory[i][i] == (char)(i + 1);
    return good && (stay == 0 || !exovisor);
}

/* Whether a process that begins when all of the greedy ones have what they could get has enough. */
static bool beside(void (*greedy)(void), bool (*well)(void))
{
    int ready[2], go[2], status = -1;
    bool good = true;
    char byte = 'x';
    if (pipe(ready) < 0 || pipe(go) < 0) return false;
    for (greedy_number = 0; greedy_number < GREEDY; greedy_number++)
        if (fork() == 0) {
            close(go[1]);
            greedy();
            _exit(write(ready[1], &byte, 1) == 1 && read(go[0], &byte, 1) == 0 ? 0 : 1);
        }
    for (unsigned i = 0; i < GREEDY; i++)
        good &= read(ready[0], &byte, 1) == 1;
    pid_t pid = fork();
    if (pid == 0) _exit(well() && hostile_all_well() ? 9 : 1);
    good &= waitpid(pid, &status, 0) == pid && status == 9 << 8 && well();
    close(go[1]);
    for (unsigned i = 0; i < GREEDY; i++)
        good &= wait(&status) > 0 && status == 0;
    close(go[0]);
    close(ready[0]);
    close(ready[1]);
    return good;
}

int main(void)
{
    test_begin("greedy");
    test_directory();
    lock_file = open("locks", O_RDWR | O_CREAT, 0600);
    CHECK("opens", opens_well());
    CHECK("locks", locks_well());
    CHECK("open_all", beside(open_all, opens_well));
    CHECK("lock_all", beside(lock_all, locks_well));
    exovisor = prctl(PR_EXO_REPLACE, 0) >= 0;
    CHECK("page_out", page_out_well());
    CHECK("page_out_all", beside(page_out_all, page_out_well));
    CHECK("page_out_again", page_out_well());
    CHECK("opens_again", opens_well());
    CHECK("locks_again", locks_well());
    return test_end();
}
