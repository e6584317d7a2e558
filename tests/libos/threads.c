/* SPDX-License-Identifier: MIT
 *
 * Threads: POSIX threads of the C library, and the calls below them. */
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include "test.h"

#define WORKERS 8
#define ROUNDS 2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int counter, turn;
static __thread int local = 5;
static pthread_key_t key;
static int destroyed;
static sem_t semaphore;
static volatile int handled_in;
static volatile bool stop;

static void *add(void *argument)
{
    for (int i = 0; i < ROUNDS; i++) {
        pthread_mutex_lock(&mutex);
        int before = counter;
        if (i % 64 == 0) sched_yield();
        counter = before + 1;
        pthread_mutex_unlock(&mutex);
    }
    return argument;
}

static void *take_turns(void *argument)
{
    int me = *(int *)argument;
    for (int i = 0; i < 200; i++) {
        pthread_mutex_lock(&mutex);
        while (turn != me)
            pthread_cond_wait(&condition, &mutex);
        turn = 1 - me;
        counter++;
        pthread_cond_broadcast(&condition);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

static void *see_local(void *argument)
{
    bool good = local == 5;
    local = *(int *)argument;
    sched_yield();
    good = good && local == *(int *)argument;
    pthread_setspecific(key, argument);
    return good ? argument : NULL;
}

static void destroy(void *value)
{
    (void)value;
    __atomic_fetch_add(&destroyed, 1, __ATOMIC_SEQ_CST);
}

static void test_mutex(void)
{
    pthread_t thread[WORKERS];
    int names[WORKERS] = {0, 1};
    bool good = true;
    for (int i = 0; i < WORKERS; i++)
        good = good && pthread_create(&thread[i], NULL, add, &names[i]) == 0;
    for (int i = 0; i < WORKERS; i++) {
        void *result = NULL;
        good = good && pthread_join(thread[i], &result) == 0 && result == &names[i];
    }
    CHECK("create_join", good);
    CHECK("mutex", counter == WORKERS * ROUNDS);
    counter = 0;
    for (int i = 0; i < 2; i++)
        pthread_create(&thread[i], NULL, take_turns, &names[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    CHECK("condition", counter == 400);
    struct timespec until;
    int64_t start = test_now_ms();
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 50000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    pthread_mutex_lock(&mutex);
    CHECK("timed_wait", pthread_cond_timedwait(&condition, &mutex, &until) == ETIMEDOUT);
    pthread_mutex_unlock(&mutex);
    CHECK("timed_wait_time", test_now_ms() - start >= 48);
}

static void test_locals(void)
{
    pthread_t thread[WORKERS];
    int value[WORKERS];
    bool good = true;
    pthread_key_create(&key, destroy);
    for (int i = 0; i < WORKERS; i++) {
        value[i] = i + 100;
        pthread_create(&thread[i], NULL, see_local, &value[i]);
    }
    for (int i = 0; i < WORKERS; i++) {
        void *result = NULL;
        pthread_join(thread[i], &result);
        good = good && result == &value[i];
    }
    CHECK("thread_local", good && local == 5);
    CHECK("key_destructors", destroyed == WORKERS);
}

static void *post_later(void *argument)
{
    test_sleep_ms(20);
    sem_post(&semaphore);
    return argument;
}

static void *end_early(void *argument) { pthread_exit(argument); }

static void *spin(void *argument)
{
    while (!stop)
        ;
    return argument;
}

static void test_more(void)
{
    pthread_t thread;
    void *result = NULL;
    sem_init(&semaphore, 0, 0);
    pthread_create(&thread, NULL, post_later, NULL);
    CHECK("semaphore",
          sem_wait(&semaphore) == 0 && sem_trywait(&semaphore) == -1 && errno == EAGAIN);
    pthread_join(thread, NULL);
    pthread_create(&thread, NULL, end_early, &counter);
    CHECK("pthread_exit", pthread_join(thread, &result) == 0 && result == &counter);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    for (int i = 0; i < 3; i++)
        pthread_create(&thread, &attributes, post_later, NULL);
    int n = 0;
    while (n < 3 && sem_wait(&semaphore) == 0)
        n++;
    CHECK("detached", n == 3);
    pthread_create(&thread, NULL, spin, NULL);
    test_sleep_ms(30);
    stop = true;
    CHECK("preempted", pthread_join(thread, NULL) == 0);
    bool good = true;
    for (int i = 0; i < 200; i++)
        good = good && pthread_create(&thread, NULL, end_early, NULL) == 0 &&
               pthread_join(thread, NULL) == 0;
    CHECK("create_200", good);
}

static void note_thread(int number)
{
    (void)number;
    handled_in = (int)syscall(SYS_gettid);
}

static void *wait_for_signal(void *argument)
{
    *(int *)argument = (int)syscall(SYS_gettid);
    sem_post(&semaphore);
    for (int i = 0; i < 200 && !handled_in; i++)
        test_sleep_ms(5);
    return NULL;
}

static void *block_and_wait(void *argument)
{
    for (;;)
        test_sleep_ms(1000);
    return argument;
}

static void exit_with_threads(void)
{
    pthread_t thread;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread, NULL, block_and_wait, NULL);
    exit(3);
}

static void *exit_process(void *argument)
{
    (void)argument;
    exit(4);
}

static void exit_from_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exit_process, NULL);
    block_and_wait(NULL);
}

static void *fork_in_thread(void *argument)
{
    int status = -1;
    pid_t pid = fork();
    if (pid == 0) _exit(syscall(SYS_gettid) == getpid() ? 6 : 7);
    waitpid(pid, &status, 0);
    *(int *)argument = status;
    return NULL;
}

static void *exec_in_thread(void *argument)
{
    execl("/bin/sh", "sh", "-c", "exit 8", (char *)NULL);
    return argument;
}

static void exec_from_thread(void)
{
    pthread_t thread;
    pthread_create(&thread, NULL, exec_in_thread, NULL);
    block_and_wait(NULL);
}

static void test_process(void)
{
    pthread_t thread;
    int tid = 0;
    signal(SIGUSR1, note_thread);
    pthread_create(&thread, NULL, wait_for_signal, &tid);
    sem_wait(&semaphore);
    CHECK("gettid", tid > 0 && tid != getpid() && syscall(SYS_gettid) == getpid());
    CHECK("pthread_kill", pthread_kill(thread, SIGUSR1) == 0);
    pthread_join(thread, NULL);
    CHECK("signal_in_thread", handled_in == tid);
    CHECK_ERROR("tgkill_gone", syscall(SYS_tgkill, getpid(), 99999, SIGUSR1), ESRCH);
    int status = test_child(exit_with_threads);
    CHECK("exit_ends_threads", WIFEXITED(status) && WEXITSTATUS(status) == 3);
    status = test_child(exit_from_thread);
    CHECK("exit_from_thread", WIFEXITED(status) && WEXITSTATUS(status) == 4);
    status = test_child(exec_from_thread);
    CHECK("exec_from_thread", WIFEXITED(status) && WEXITSTATUS(status) == 8);
    pthread_create(&thread, NULL, fork_in_thread, &status);
    pthread_join(thread, NULL);
    CHECK("fork_in_thread", WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

static long futex(int *word, int operation, int value, const struct timespec *time, int *other,
                  int third)
{
    return syscall(SYS_futex, word, operation, value, time, other, third);
}

static int word, other_word;

static void *futex_waiter(void *argument)
{
    while (futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0) < 0 && errno == EINTR)
        ;
    __atomic_fetch_add((int *)argument, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static void test_futex(void)
{
    struct timespec brief = {0, 30000000};
    pthread_t thread[4];
    int woken = 0;
    word = 1;
    CHECK_ERROR("futex_other_value", futex(&word, FUTEX_WAIT, 0, NULL, NULL, 0), EAGAIN);
    CHECK_ERROR("futex_time", futex(&word, FUTEX_WAIT, 1, &brief, NULL, 0), ETIMEDOUT);
    CHECK("futex_nobody", futex(&word, FUTEX_WAKE, 10, NULL, NULL, 0) == 0);
    CHECK_ERROR("futex_unaligned",
                futex((int *)((char *)&word + 1), FUTEX_WAIT, 1, &brief, NULL, 0), EINVAL);
    CHECK_ERROR("futex_odd", futex(&word, 99, 0, NULL, NULL, 0), ENOSYS);
    word = 0;
    for (int i = 0; i < 4; i++)
        pthread_create(&thread[i], NULL, futex_waiter, &woken);
    test_sleep_ms(50);
    CHECK("futex_wake_one", futex(&word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0) == 1);
    test_sleep_ms(20);
    CHECK("futex_one_woke", __atomic_load_n(&woken, __ATOMIC_SEQ_CST) == 1);
    CHECK("futex_requeue",
          futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (struct timespec *)2, &other_word, 0) == 3);
    CHECK("futex_requeued", futex(&other_word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0) == 2);
    for (int i = 0; i < 4; i++)
        pthread_join(thread[i], NULL);
    CHECK("futex_all_woke", woken == 4);
}

#define PLAYERS 3
#define TURNS 3000
static int turn;
static volatile int signals_taken;

static void take_signal(int number) { signals_taken += number != 0; }

/* The turn goes round; who wakes somebody waits at once, and signals come meanwhile. */
static void *futex_player(void *argument)
{
    int self = (int)(intptr_t)argument, seen;
    while ((seen = __atomic_load_n(&turn, __ATOMIC_SEQ_CST)) < TURNS) {
        if (seen % PLAYERS != self) {
            futex(&turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
            continue;
        }
        __atomic_store_n(&turn, seen + 1, __ATOMIC_SEQ_CST);
        futex(&turn, FUTEX_WAKE_PRIVATE, PLAYERS, NULL, NULL, 0);
        if (seen % 64 == 0) kill(getpid(), SIGUSR1);
    }
    return NULL;
}

static void test_futex_turns(void)
{
    pthread_t thread[PLAYERS];
    struct timespec brief = {0, 20000000};
    signal(SIGUSR1, take_signal);
    for (int i = 0; i < PLAYERS; i++)
        pthread_create(&thread[i], NULL, futex_player, (void *)(intptr_t)i);
    for (int i = 0; i < PLAYERS; i++)
        pthread_join(thread[i], NULL);
    CHECK("futex_turns", turn == TURNS && signals_taken > 0);
    futex(&turn, FUTEX_WAKE, 1, NULL, NULL, 0); /* nobody is there any more */
    CHECK_ERROR("futex_after", futex(&turn, FUTEX_WAIT, turn, &brief, NULL, 0), ETIMEDOUT);
}

int main(void)
{
    test_begin("threads");
    test_mutex();
    test_locals();
    test_more();
    test_process();
    test_futex();
    test_futex_turns();
    return test_end();
}
