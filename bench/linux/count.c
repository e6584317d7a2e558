/* SPDX-License-Identifier: MIT
 *
 * count NAME COMMAND [ARGUMENT...]: runs the command three times and prints
 * "NAME instructions", the least of them, from before the fork to behind the wait. NAME
 * ending in "!" is run once: what cannot be done again. Exit status: the command's. */
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "count.h"

#define TIMES 3

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "count NAME COMMAND [ARGUMENT...]\n");
        return 2;
    }
    size_t length = strlen(argv[1]);
    int once = length > 0 && argv[1][length - 1] == '!', status = 0;
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < (once ? 1 : TIMES); i++) {
        uint64_t start = count_now();
        pid_t pid = vfork();
        if (pid == 0) {
            execvp(argv[2], argv + 2);
            _exit(127);
        }
        if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
            WEXITSTATUS(status) != 0) {
            printf("# %s: status %x\n", argv[1], (unsigned)status);
            return 1;
        }
        uint64_t taken = count_now() - start;
        best = taken < best ? taken : best;
    }
    printf("%.*s %lu\n", (int)length - once, argv[1], (unsigned long)best);
    return 0;
}
