/* SPDX-License-Identifier: MIT
 *
 * Programs that open, or lock, as much as they can and stay: many of them together leave their
 * neighbours what these need. */
#include <sys/wait.h>
#include "hostile.h"

#define GREEDY 14 /* processes; each may have 1,024 files: more than there are */
#define FILES 12 /* that a neighbour needs */
#define LOCKS 3
#define MANY 4000 /* locks that each wants */

static int lock_file;

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
    CHECK("opens_again", opens_well());
    CHECK("locks_again", locks_well());
    return test_end();
}
