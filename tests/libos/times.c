/* SPDX-License-Identifier: MIT
 *
 * Clocks, sleeping, random numbers, and what a process asks about the system. */
#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include "test.h"

static int64_t now_ns(clockid_t clock)
{
    struct timespec now = {0, 0};
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void test_clocks(void)
{
    struct timespec t;
    bool forward = true;
    int64_t last = now_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < 10000; i++) {
        int64_t now = now_ns(CLOCK_MONOTONIC);
        forward = forward && now >= last;
        last = now;
    }
    CHECK("monotonic", forward);
    CHECK("realtime", now_ns(CLOCK_REALTIME) > 1600000000ll * 1000000000);
    struct timeval day;
    CHECK("gettimeofday", gettimeofday(&day, NULL) == 0 &&
                              llabs(day.tv_sec - now_ns(CLOCK_REALTIME) / 1000000000) <= 1);
    CHECK("time", llabs((long long)time(NULL) - day.tv_sec) <= 1);
    CHECK("getres", clock_getres(CLOCK_MONOTONIC, &t) == 0 && t.tv_sec == 0 && t.tv_nsec > 0 &&
                        t.tv_nsec <= 10000000);
    CHECK("other_clocks", now_ns(CLOCK_BOOTTIME) >= now_ns(CLOCK_MONOTONIC) - 1000000 &&
                              now_ns(CLOCK_MONOTONIC_RAW) > 0 &&
                              now_ns(CLOCK_REALTIME_COARSE) > 0 &&
                              now_ns(CLOCK_MONOTONIC_COARSE) > 0);
    CHECK_ERROR("clock_odd", syscall(SYS_clock_gettime, 99, &t), EINVAL);
    int64_t cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (volatile int i = 0; i < 20000000; i++)
        ;
    int64_t used = now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    CHECK("cpu_time_counts", used > 1000000);
    cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID);
    test_sleep_ms(100);
    CHECK("cpu_time_not_asleep", now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 80000000);
}

static void test_sleeping(void)
{
    int64_t before = now_ns(CLOCK_MONOTONIC);
    struct timespec t = {0, 50000000};
    CHECK("nanosleep", nanosleep(&t, NULL) == 0);
    int64_t slept = now_ns(CLOCK_MONOTONIC) - before;
    CHECK("nanosleep_time", slept >= 50000000 && slept < 2000000000);
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += 30000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    CHECK("sleep_until", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0 &&
                             now_ns(CLOCK_MONOTONIC) >= t.tv_sec * 1000000000ll + t.tv_nsec);
    CHECK("sleep_past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == 0);
    t.tv_nsec = 1000000000;
    CHECK_ERROR("nanosleep_odd", nanosleep(&t, NULL), EINVAL);
    t = (struct timespec){-1, 0};
    CHECK_ERROR("nanosleep_negative", nanosleep(&t, NULL), EINVAL);
    struct tms used;
    CHECK("times", times(&used) != (clock_t)-1);
}

/* ---- time of the processor ---- */

static void spin(clockid_t clock, int64_t ns)
{
    for (int64_t end = now_ns(clock) + ns; now_ns(clock) < end;)
        ;
}

static int64_t used_ns(const struct rusage *usage)
{
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000ll +
           (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000ll;
}

/* Fields 14 and 15 of /proc/PID/stat, in nanoseconds. */
static int64_t proc_ns(pid_t pid)
{
    char path[32], text[512] = "";
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) return -1;
    close(fd);
    const char *at = strrchr(text, ')');
    if (!at ||
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return -1;
    return (int64_t)(user + system) * 10000000;
}

static void test_children(void)
{
    struct rusage usage, all;
    struct tms used;
    int status, ready[2];
    char byte = 0;
    if (pipe(ready) < 0) return;
    pid_t pid = fork();
    if (pid == 0) {
        spin(CLOCK_PROCESS_CPUTIME_ID, 150000000);
        if (write(ready[1], &byte, 1) != 1) _exit(1);
        pause();
    }
    CHECK("child_spins", read(ready[0], &byte, 1) == 1);
    test_sleep_ms(300);
    int64_t shown = proc_ns(pid);
    CHECK("proc_time", shown >= 130000000);
    test_sleep_ms(300);
    CHECK("proc_stands_still", proc_ns(pid) - shown < 100000000);
    kill(pid, SIGKILL);
    CHECK("wait4_time", wait4(pid, &status, 0, &usage) == pid && used_ns(&usage) >= 140000000);
    CHECK("children_time",
          getrusage(RUSAGE_CHILDREN, &all) == 0 && used_ns(&all) >= used_ns(&usage) - 10000000);
    CHECK("times_children", times(&used) != (clock_t)-1 && used.tms_cutime + used.tms_cstime >= 13);
    pid = fork();
    if (pid == 0) {
        test_sleep_ms(400);
        _exit(0);
    }
    CHECK("sleeper_time", wait4(pid, &status, 0, &usage) == pid && used_ns(&usage) < 200000000);
    close(ready[0]);
    close(ready[1]);
}

static void *spinner(void *unused)
{
    spin(CLOCK_THREAD_CPUTIME_ID, 100000000);
    return unused;
}

static void test_threads(void)
{
    pthread_t thread;
    int64_t process = now_ns(CLOCK_PROCESS_CPUTIME_ID), own = now_ns(CLOCK_THREAD_CPUTIME_ID);
    pthread_create(&thread, NULL, spinner, NULL);
    pthread_join(thread, NULL);
    CHECK("threads_process", now_ns(CLOCK_PROCESS_CPUTIME_ID) - process >= 100000000);
    CHECK("threads_own", now_ns(CLOCK_THREAD_CPUTIME_ID) - own < 80000000);
    pthread_create(&thread, NULL, spinner, NULL); /* a thread begins with none */
    pthread_join(thread, NULL);
    CHECK("threads_again", now_ns(CLOCK_PROCESS_CPUTIME_ID) - process >= 200000000);
    struct rusage usage;
    CHECK("threads_usage", getrusage(RUSAGE_SELF, &usage) == 0 && used_ns(&usage) >= 200000000);
}

static void test_random(void)
{
    uint64_t a[4] = {0}, b[4] = {0};
    CHECK("getrandom", getrandom(a, sizeof a, 0) == sizeof a &&
                           getrandom(b, sizeof b, 0) == sizeof b && memcmp(a, b, sizeof a) != 0 &&
                           a[0] != 0);
    CHECK_ERROR("getrandom_odd", getrandom(a, 8, 0x100), EINVAL);
}

static void test_system(void)
{
    struct utsname name;
    CHECK("uname", uname(&name) == 0 && strcmp(name.machine, "x86_64") == 0 &&
                       strcmp(name.sysname, "Linux") == 0);
    int major = 0, minor = 0;
    CHECK("uname_release", sscanf(name.release, "%d.%d", &major, &minor) == 2 && major >= 4);
    struct sysinfo info;
    CHECK("sysinfo", sysinfo(&info) == 0 && info.totalram > 0 && info.freeram <= info.totalram &&
                         info.procs >= 1);
    CHECK("processors", sysconf(_SC_NPROCESSORS_ONLN) >= 1);
    CHECK("page_size",
          getauxval(AT_PAGESZ) == 4096 && getauxval(AT_RANDOM) != 0 && getauxval(AT_PHDR) != 0);
    char title[16] = "";
    CHECK("set_name", prctl(PR_SET_NAME, "a-new-name") == 0 && prctl(PR_GET_NAME, title) == 0 &&
                          strcmp(title, "a-new-name") == 0);
    CHECK_ERROR("prctl_odd", prctl(9999, 0), EINVAL);
    cpu_set_t set;
    CPU_ZERO(&set);
    CHECK("affinity", sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) >= 1);
    CHECK("yield", sched_yield() == 0);
    CHECK_ERROR("unknown_call", syscall(1000), ENOSYS);
    CHECK_ERROR("negative_call", syscall(-5), ENOSYS);
}

int main(void)
{
    test_begin("times");
    test_clocks();
    test_sleeping();
    test_children();
    test_threads();
    test_random();
    test_system();
    return test_end();
}
