/* SPDX-License-Identifier: MIT
 *
 * Programs that take all they can get: processes without end, memory, descriptors, pipes,
 * threads, files. What is there runs out with an error, and comes back. */
#include <pthread.h>
#include "hostile.h"

#define MOST 400 /* processes: more than exovisor has, few enough for Linux */

static volatile int *born;

static void fork_for_ever(void)
{
    setpgid(0, 0);
    while (__atomic_add_fetch(born, 1, __ATOMIC_SEQ_CST) < MOST) {
        if (fork() < 0) {
            __atomic_fetch_add(born + 1, 1, __ATOMIC_SEQ_CST);
            break;
        }
    }
    for (;;)
        test_sleep_ms(1000);
}

static void test_processes(void)
{
    born = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    if (pid == 0) fork_for_ever();
    setpgid(pid, pid);
    for (int last = -1; last != *born || last == 0; test_sleep_ms(300))
        last = *born;
    CHECK("fork_bomb_born", *born > 10);
    CHECK("fork_bomb_killed", kill(-pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
    bool good = false;
    for (int i = 0; i < 100 && !good; i++) {
        test_sleep_ms(20);
        good = kill(-pid, 0) < 0 && errno == ESRCH;
    }
    CHECK("fork_bomb_gone", good);
    CHECK("fork_bomb_after", hostile_all_well());
}

static long half_free, taken; /* KiB */

/* No frame was left for a page that was touched. Not all that is free can be a process's (on
 * exovisor some is kept for files), but a good part of it has to be. */
static void ran_out(int number)
{
    (void)number;
    _exit(taken >= half_free / 4 ? 9 : 11);
}

/* At most 64 MiB more than half of what is free: Linux would rather kill somebody. */
static void take_memory(void)
{
    signal(SIGBUS, ran_out);
    half_free = hostile_free_kib() / 2;
    for (taken = 0; taken < half_free; taken += 1024) {
        char *memory =
            mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) ran_out(SIGBUS);
        memset(memory, 1, 1 << 20);
    }
    _exit(hostile_free_kib() <= half_free + 65536 ? 9 : 10);
}

static void take_descriptors(void)
{
    int ends[2], n = 0;
    while (pipe(ends) == 0 && n < 5000)
        n++;
    _exit(n > 20 && errno == EMFILE ? 9 : 10);
}

static void fill_pipes(void)
{
    static char data[65536];
    int ends[2];
    while (pipe2(ends, O_NONBLOCK) == 0)
        if (write(ends[1], data, sizeof data) < 0) break;
    _exit(9);
}

static void *sleep_long(void *argument)
{
    test_sleep_ms(100000);
    return argument;
}

static void take_threads(void)
{
    pthread_t thread;
    pthread_attr_t small;
    int n = 0;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 16384);
    while (n < 500 && pthread_create(&thread, &small, sleep_long, NULL) == 0)
        n++;
    _exit(n >= 8 ? 9 : 10);
}

static void make_files(void)
{
    char name[32];
    mkdir("many", 0755);
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        int fd = open(name, O_CREAT | O_WRONLY, 0644);
        if (fd < 0) break;
        close(fd);
    }
    for (int i = 0; i < 3000; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        unlink(name);
    }
    _exit(rmdir("many") == 0 ? 9 : 10);
}

static void grow_stack(void)
{
    volatile char frame[65536];
    frame[0] = frame[65535] = 1;
    if (test_now_ms() >= 0) grow_stack();
    frame[1] = frame[0];
}

static const struct {
    const char *name;
    void (*run)(void);
    bool dies;
} ways[] = {
    {"memory", take_memory, false}, {"descriptors", take_descriptors, false},
    {"pipes", fill_pipes, false},   {"threads", take_threads, false},
    {"files", make_files, false},   {"stack", grow_stack, true},
};

int main(void)
{
    char name[64];
    test_begin("swarm");
    test_directory();
    hostile_all_well();
    long before = hostile_free_kib();
    test_processes();
    for (size_t i = 0; i < COUNT(ways); i++) {
        int status = hostile_run(ways[i].run, 60000);
        CHECK(ways[i].name, ways[i].dies ? WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV
                                         : WIFEXITED(status) && WEXITSTATUS(status) == 9);
        snprintf(name, sizeof name, "%s_after", ways[i].name);
        CHECK(name, hostile_all_well());
    }
    CHECK("given_back", hostile_given_back(before, 2048));
    return test_end();
}
