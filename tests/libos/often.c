/* SPDX-License-Identifier: MIT
 *
 * What a process, or a line of processes, can do as often as it likes: nothing is used up by it. */
#include <sys/mman.h>
#include <sys/mount.h>
#include "test.h"

#define EXECS 150

/* A program that executes itself again: `left` times more. */
static void exec_again(int left)
{
    char text[16];
    if (!left) _exit(42);
    snprintf(text, sizeof text, "%d", left - 1);
    execl("/proc/self/exe", "again", text, NULL);
    dprintf(1, "often: errno %d, %d to go\n", errno, left);
    _exit(1);
}

static void test_exec(void)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) exec_again(EXECS);
    CHECK("exec", waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 42);
}

/* What a program had mapped is not in use any more when another one is executed. */
static void test_exec_closes(void)
{
    int status, ends[2];
    char byte;
    mkdir("mount", 0755);
    CHECK("mount", mount("none", "mount", "tmpfs", 0, NULL) == 0 && pipe(ends) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        int fd = open("mount/file", O_RDWR | O_CREAT, 0644);
        volatile char *m = ftruncate(fd, 4096) == 0
                               ? mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)
                               : MAP_FAILED;
        if (m == MAP_FAILED) _exit(1);
        *m = 1;
        close(fd);
        fcntl(ends[1], F_SETFD, FD_CLOEXEC);
        execl("/bin/sleep", "sleep", "100", NULL);
        _exit(1);
    }
    close(ends[1]);
    CHECK("executed", read(ends[0], &byte, 1) == 0);
    CHECK("exec_unmaps", umount("mount") == 0);
    CHECK("killed", kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid);
    umount("mount");
    close(ends[0]);
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[0], "again")) exec_again(atoi(argv[1]));
    test_begin("often");
    test_directory();
    test_exec();
    test_exec_closes();
    return test_end();
}
