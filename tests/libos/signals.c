/* SPDX-License-Identifier: MIT
 *
 * Signals: handlers, masks, siginfo, alternate stacks, restarts, timers. */
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include "test.h"

static volatile sig_atomic_t taken, inside, deepest;
static siginfo_t last;
static uintptr_t stack_seen, context_rip;
static sigjmp_buf back;

static void count(int number)
{
    (void)number;
    taken++;
}

static void count_information(int number, siginfo_t *info, void *context)
{
    (void)number;
    last = *info;
    stack_seen = (uintptr_t)__builtin_frame_address(0);
    context_rip = (uintptr_t)((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    taken++;
}

static void nest(int number)
{
    if (++inside > deepest) deepest = inside;
    if (++taken < 3) raise(number);
    inside--;
}

static void jump(int number, siginfo_t *info, void *context)
{
    (void)number;
    (void)context;
    last = *info;
    siglongjmp(back, 1);
}

static void handle(int number, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &action, NULL);
    taken = inside = deepest = 0;
}

static void handle_information(int number, void (*handler)(int, siginfo_t *, void *), int flags)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
    sigaction(number, &action, NULL);
    taken = 0;
    memset(&last, 0, sizeof last);
}

static void test_handlers(void)
{
    handle(SIGUSR1, count, 0);
    CHECK("raise", raise(SIGUSR1) == 0 && taken == 1);
    CHECK("handler_stays", raise(SIGUSR1) == 0 && taken == 2);
    CHECK("kill_self", kill(getpid(), SIGUSR1) == 0 && taken == 3);
    handle(SIGUSR1, count, SA_RESETHAND);
    raise(SIGUSR1);
    struct sigaction now;
    CHECK("resethand",
          sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == SIG_DFL && taken == 1);
    handle(SIGUSR1, nest, 0);
    raise(SIGUSR1);
    CHECK("masked_in_handler", taken == 3 && deepest == 1);
    handle(SIGUSR1, nest, SA_NODEFER);
    raise(SIGUSR1);
    CHECK("nodefer", taken == 3 && deepest == 3);
    signal(SIGUSR1, SIG_IGN);
    CHECK("ignored", raise(SIGUSR1) == 0);
    CHECK_ERROR("action_kill", sigaction(SIGKILL, &now, NULL), EINVAL);
    CHECK_ERROR("action_odd", sigaction(70, NULL, &now), EINVAL);
    signal(SIGUSR1, SIG_DFL);
    signal(SIGCHLD, SIG_DFL);
    CHECK("default_ignored", raise(SIGCHLD) == 0 && raise(SIGURG) == 0 && raise(SIGWINCH) == 0);
}

static void test_masks(void)
{
    sigset_t mask, old, pending;
    handle(SIGUSR1, count, 0);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    CHECK("block", sigprocmask(SIG_BLOCK, &mask, &old) == 0 && !sigismember(&old, SIGUSR1));
    raise(SIGUSR1);
    raise(SIGUSR1);
    CHECK("blocked", taken == 0);
    CHECK("pending", sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1) &&
                         !sigismember(&pending, SIGUSR2));
    CHECK("unblock_delivers_once", sigprocmask(SIG_UNBLOCK, &mask, NULL) == 0 && taken == 1);
    sigfillset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    sigprocmask(SIG_SETMASK, NULL, &old);
    CHECK("kill_not_maskable",
          !sigismember(&old, SIGKILL) && !sigismember(&old, SIGSTOP) && sigismember(&old, SIGTERM));
    raise(SIGUSR1);
    sigdelset(&mask, SIGUSR1);
    CHECK_ERROR("suspend", sigsuspend(&mask), EINTR);
    sigprocmask(SIG_SETMASK, NULL, &old);
    CHECK("suspend_restores", taken == 2 && sigismember(&old, SIGUSR1));
    raise(SIGUSR1);
    signal(SIGUSR1, SIG_IGN);
    sigpending(&pending);
    CHECK("ignoring_discards", !sigismember(&pending, SIGUSR1));
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    raise(SIGUSR2);
    siginfo_t info;
    struct timespec brief = {0, 20000000};
    CHECK("sigtimedwait",
          sigtimedwait(&mask, &info, &brief) == SIGUSR2 && info.si_signo == SIGUSR2);
    CHECK_ERROR("sigtimedwait_late", sigtimedwait(&mask, &info, &brief), EAGAIN);
    sigemptyset(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    CHECK_ERROR("mask_odd", sigprocmask(17, &mask, NULL), EINVAL);
    struct sigaction both = {.sa_handler = nest};
    sigaddset(&both.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &both, NULL);
}

static void test_information(void)
{
    handle_information(SIGUSR1, count_information, 0);
    kill(getpid(), SIGUSR1);
    CHECK("siginfo_kill", taken == 1 && last.si_signo == SIGUSR1 && last.si_code == SI_USER &&
                              last.si_pid == getpid());
    raise(SIGUSR1);
    CHECK("siginfo_tkill", taken == 2 && last.si_code == SI_TKILL);
    handle_information(SIGRTMIN, count_information, 0);
    union sigval value = {.sival_int = 77};
    CHECK("sigqueue", sigqueue(getpid(), SIGRTMIN, value) == 0 && taken == 1 &&
                          last.si_code == SI_QUEUE && last.si_value.sival_int == 77);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    for (value.sival_int = 1; value.sival_int <= 3; value.sival_int++)
        sigqueue(getpid(), SIGRTMIN, value);
    sigprocmask(SIG_UNBLOCK, &mask, NULL);
    CHECK("realtime_queues", taken == 4 && last.si_value.sival_int == 3);
    handle_information(SIGCHLD, count_information, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) _exit(17);
    int status;
    waitpid(pid, &status, 0);
    for (int i = 0; i < 100 && !taken; i++)
        test_sleep_ms(2);
    CHECK("siginfo_child",
          taken == 1 && last.si_code == CLD_EXITED && last.si_pid == pid && last.si_status == 17);
    signal(SIGCHLD, SIG_DFL);
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack}, old;
    CHECK("sigaltstack", sigaltstack(&alternate, NULL) == 0);
    handle_information(SIGUSR1, count_information, SA_ONSTACK);
    raise(SIGUSR1);
    CHECK("onstack", stack_seen > (uintptr_t)stack && stack_seen < (uintptr_t)stack + sizeof stack);
    handle_information(SIGUSR1, count_information, 0);
    raise(SIGUSR1);
    CHECK("not_onstack",
          stack_seen < (uintptr_t)stack || stack_seen > (uintptr_t)stack + sizeof stack);
    CHECK("altstack_kept", sigaltstack(NULL, &old) == 0 && old.ss_sp == stack && old.ss_flags == 0);
    alternate.ss_size = 100;
    CHECK_ERROR("altstack_small", sigaltstack(&alternate, NULL), ENOMEM);
}

__attribute__((noinline)) static void fault_read(volatile char *place) { (void)*place; }

static void test_faults(void)
{
    char *page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    handle_information(SIGSEGV, jump, SA_NODEFER);
    if (sigsetjmp(back, 1) == 0) fault_read((char *)0x1234);
    CHECK("segv_unmapped", last.si_signo == SIGSEGV && last.si_code == SEGV_MAPERR &&
                               last.si_addr == (void *)0x1234);
    if (sigsetjmp(back, 1) == 0) page[4097] = 1;
    CHECK("segv_protected", last.si_code == SEGV_ACCERR && last.si_addr == page + 4097);
    if (sigsetjmp(back, 1) == 0) fault_read((char *)0x8000000000001234ul);
    CHECK("segv_noncanonical", last.si_signo == SIGSEGV && last.si_code == SI_KERNEL);
    if (sigsetjmp(back, 1) == 0) ((void (*)(void))page)();
    CHECK("segv_execute", last.si_signo == SIGSEGV && last.si_addr == page);
    handle_information(SIGILL, jump, SA_NODEFER);
    if (sigsetjmp(back, 1) == 0) __asm__ volatile("ud2");
    CHECK("ill", last.si_signo == SIGILL);
    handle_information(SIGFPE, jump, SA_NODEFER);
    if (sigsetjmp(back, 1) == 0)
        __asm__ volatile("xor %%edx, %%edx\n\tmov $1, %%eax\n\tdivl %%edx" : : : "eax", "edx");
    CHECK("fpe", last.si_signo == SIGFPE && last.si_code == FPE_INTDIV);
    handle_information(SIGTRAP, count_information, 0);
    __asm__ volatile("int3");
    CHECK("trap", taken == 1 && last.si_signo == SIGTRAP);
    if (sigsetjmp(back, 1) == 0) __asm__ volatile("hlt");
    CHECK("privileged", last.si_signo == SIGTRAP || last.si_signo == SIGSEGV);
    signal(SIGSEGV, SIG_DFL);
    munmap(page, 8192);
}

/* All registers and the vector unit are as before when a handler has been. */
static void test_registers(void)
{
    handle(SIGALRM, count, 0);
    struct itimerval often = {{0, 3000}, {0, 3000}}, none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    double sum = 0, expected = 0;
    uint64_t hash = 1, again = 1;
    int64_t end = test_now_ms() + 3000;
    bool same = true;
    while (taken < 20 && test_now_ms() < end) {
        hash = again = 1;
        sum = expected = 0;
        for (int i = 1; i < 20000; i++) {
            hash = hash * 6364136223846793005u + (unsigned)i;
            sum += 1.0 / i;
        }
        for (int i = 1; i < 20000; i++) {
            again = again * 6364136223846793005u + (unsigned)i;
            expected += 1.0 / i;
        }
        same = same && hash == again && sum >= expected && sum <= expected;
    }
    setitimer(ITIMER_REAL, &none, NULL);
    CHECK("interval_timer", taken >= 20);
    CHECK("registers_kept", same);
}

static void test_interruption(void)
{
    int ends[2];
    char byte;
    if (pipe(ends) < 0) return;
    struct itimerval soon = {{0, 0}, {0, 30000}};
    handle(SIGALRM, count, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK_ERROR("read_interrupted", read(ends[0], &byte, 1), EINTR);
    handle(SIGALRM, count, SA_RESTART);
    pid_t pid = fork();
    if (pid == 0) {
        test_sleep_ms(150);
        _exit(write(ends[1], "x", 1) != 1);
    }
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK("read_restarted", read(ends[0], &byte, 1) == 1 && taken == 1);
    waitpid(pid, NULL, 0);
    struct timespec second = {1, 0}, left = {0, 0};
    handle(SIGALRM, count, SA_RESTART);
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK_ERROR("sleep_interrupted", nanosleep(&second, &left), EINTR);
    CHECK("sleep_left", left.tv_sec == 0 && left.tv_nsec > 500000000);
    handle(SIGALRM, count, 0);
    setitimer(ITIMER_REAL, &soon, NULL);
    CHECK_ERROR("pause", pause(), EINTR);
    alarm(100);
    CHECK("alarm_left", alarm(0) >= 99);
    handle(SIGPIPE, count, 0);
    close(ends[0]);
    CHECK_ERROR("write_broken_pipe", write(ends[1], "x", 1), EPIPE);
    CHECK("sigpipe", taken == 1);
    close(ends[1]);
    timer_t timer;
    handle_information(SIGUSR2, count_information, 0);
    struct sigevent event = {
        .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 5};
    struct itimerspec once = {.it_value.tv_nsec = 20000000};
    CHECK("timer_create", timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    CHECK("timer_settime", timer_settime(timer, 0, &once, NULL) == 0);
    for (int i = 0; i < 200 && !taken; i++)
        test_sleep_ms(5);
    CHECK("timer_signal", taken == 1 && last.si_code == SI_TIMER && last.si_value.sival_int == 5);
    CHECK("timer_delete", timer_delete(timer) == 0);
}

/* A line of /proc/self/status that is a set of signals, as far as it is `of`. */
static uint64_t shown(const char *name, uint64_t of)
{
    char text[4096] = "";
    int fd = open("/proc/self/status", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0) return ~0ul;
    close(fd);
    const char *at = strstr(text, name);
    return at ? strtoul(at + strlen(name), NULL, 16) & of : ~0ul;
}

static void test_shown(void)
{
    const uint64_t one = 1ul << (SIGUSR1 - 1), two = 1ul << (SIGUSR2 - 1), both = one | two,
                   child = 1ul << (SIGCHLD - 1);
    sigset_t set, old;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    signal(SIGCHLD, SIG_DFL);
    signal(SIGUSR1, SIG_IGN);
    handle_information(SIGUSR2, count_information, 0);
    sigprocmask(SIG_BLOCK, &set, &old);
    CHECK("shown_ignored", shown("SigIgn:\t", both | child) == one);
    CHECK("shown_handled", shown("SigCgt:\t", both | child) == two);
    CHECK("shown_blocked", shown("SigBlk:\t", both | child) == two);
    sigprocmask(SIG_SETMASK, &old, NULL);
    signal(SIGUSR1, SIG_DFL);
    CHECK("shown_default", shown("SigIgn:\t", both) == 0 && shown("SigBlk:\t", both) == 0);
}

int main(void)
{
    test_begin("signals");
    test_handlers();
    test_masks();
    test_information();
    test_faults();
    test_registers();
    test_interruption();
    test_shown();
    return test_end();
}
