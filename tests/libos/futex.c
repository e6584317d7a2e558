/* SPDX-License-Identifier: MIT
 *
 * What processes share to wait for each other: futexes in shared memory, and what C libraries
 * make of them (mutexes, condition variables, barriers and semaphores between processes); peers
 * that die or lie meanwhile. */
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/mman.h>
#include "test.h"

#define PAGE 4096ul
#define CHILDREN 4
#define TURNS 200

static struct shared {
    uint32_t word, other, flag;
    uint32_t count; /* changed under the mutex only */
    pthread_mutex_t mutex, robust;
    pthread_cond_t condition;
    pthread_barrier_t barrier;
    sem_t semaphore;
} * shared;

static long futex(uint32_t *word, int command, uint32_t value, const struct timespec *time,
                  uint32_t *other, uint32_t last)
{
    return syscall(SYS_futex, word, command, value, time, other, last);
}

static pid_t start(void (*child)(void))
{
    pid_t pid = fork();
    if (pid) return pid;
    alarm(20);
    child();
    _exit(0);
}

/* Whether they all end with status 0. */
static bool all_end(const pid_t *pid, unsigned n)
{
    bool good = true;
    for (unsigned i = 0; i < n; i++) {
        int status = -1;
        good &= waitpid(pid[i], &status, 0) == pid[i] && status == 0;
    }
    return good;
}

static void wait_word(void)
{
    while (__atomic_load_n(&shared->word, __ATOMIC_SEQ_CST) == 0)
        if (futex(&shared->word, FUTEX_WAIT, 0, NULL, NULL, 0) < 0 && errno != EAGAIN &&
            errno != EINTR)
            _exit(1);
}

static void wait_once(void) /* the word stays what it is */
{
    _exit(futex(&shared->word, FUTEX_WAIT, 0, NULL, NULL, 0) == 0 ? 0 : 1);
}

static void wait_bit(void)
{
    _exit(futex(&shared->word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 4) == 0 ? 0 : 1);
}

/* Wakes until so many were woken, for a while. */
static long wake_until(uint32_t *word, int command, uint32_t bits, long n)
{
    long done = 0;
    for (int i = 0; i < 2000 && done < n; i++) {
        long r = futex(word, command, (uint32_t)(n - done), NULL, NULL, bits);
        if (r < 0) return -1;
        done += r;
        if (done < n) test_sleep_ms(1);
    }
    return done;
}

static void test_words(void)
{
    pid_t pid[CHILDREN];
    const struct timespec soon = {0, 20000000};
    shared->word = 0;
    for (unsigned i = 0; i < CHILDREN; i++)
        pid[i] = start(wait_word);
    test_sleep_ms(20);
    __atomic_store_n(&shared->word, 1, __ATOMIC_SEQ_CST);
    futex(&shared->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    CHECK("wake_all", all_end(pid, CHILDREN));
    shared->word = 0;
    for (unsigned i = 0; i < CHILDREN; i++)
        pid[i] = start(wait_once);
    CHECK("wake_counts",
          wake_until(&shared->word, FUTEX_WAKE, 0, CHILDREN) == CHILDREN && all_end(pid, CHILDREN));
    CHECK("wake_none", futex(&shared->word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
    pid[0] = start(wait_bit);
    CHECK("wake_other_bit", wake_until(&shared->word, FUTEX_WAKE_BITSET, 4, 1) == 1);
    CHECK("wake_bit", all_end(pid, 1));
    CHECK_ERROR("again", futex(&shared->word, FUTEX_WAIT, 5, NULL, NULL, 0), EAGAIN);
    int64_t before = test_now_ms();
    CHECK_ERROR("time", futex(&shared->word, FUTEX_WAIT, 0, &soon, NULL, 0), ETIMEDOUT);
    CHECK("time_passed", test_now_ms() - before >= 19);
    CHECK_ERROR("unaligned", futex((uint32_t *)((char *)shared + 2), FUTEX_WAIT, 0, NULL, NULL, 0),
                EINVAL);
}

static void nothing(int signal) { (void)signal; }

static void wait_interrupted(void)
{
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGUSR1, &action, NULL);
    __atomic_store_n(&shared->flag, 1, __ATOMIC_SEQ_CST);
    long r = futex(&shared->word, FUTEX_WAIT, 0, NULL, NULL, 0);
    _exit(r < 0 && errno == EINTR ? 0 : 1);
}

static void test_ends(void)
{
    shared->word = shared->flag = 0;
    pid_t pid = start(wait_interrupted);
    while (!__atomic_load_n(&shared->flag, __ATOMIC_SEQ_CST))
        test_sleep_ms(1);
    int status = 0;
    for (int i = 0; i < 200 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        kill(pid, SIGUSR1);
        test_sleep_ms(5);
    }
    CHECK("signal", status == 0);
    pid = start(wait_once); /* dies while it waits: nobody is woken in its place */
    test_sleep_ms(20);
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    CHECK("dead_waiter", futex(&shared->word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0);
    pid_t two[2] = {start(wait_once), start(wait_once)};
    test_sleep_ms(20);
    long r = futex(&shared->word, FUTEX_CMP_REQUEUE, 1, (void *)1, &shared->other, 0);
    CHECK("requeue", r >= 0 && r <= 2);
    wake_until(&shared->other, FUTEX_WAKE, 0, 1);
    wake_until(&shared->word, FUTEX_WAKE, 0, 1);
    CHECK("requeue_all", all_end(two, 2));
}

/* The same word at two addresses, of a file. */
static void test_file(void)
{
    int fd = open("words", O_RDWR | O_CREAT | O_TRUNC, 0600), status = -1;
    CHECK("file", fd >= 0 && ftruncate(fd, 2 * PAGE) == 0);
    uint32_t *ours = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    pid_t pid = fork();
    if (pid == 0) {
        alarm(20);
        munmap(ours, 2 * PAGE);
        uint32_t *theirs = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, PAGE);
        while (__atomic_load_n(theirs, __ATOMIC_SEQ_CST) == 0)
            futex(theirs, FUTEX_WAIT, 0, NULL, NULL, 0);
        _exit(*theirs == 7 ? 0 : 1);
    }
    test_sleep_ms(20);
    __atomic_store_n(ours + PAGE / 4, 7, __ATOMIC_SEQ_CST);
    futex(ours + PAGE / 4, FUTEX_WAKE, 1, NULL, NULL, 0);
    waitpid(pid, &status, 0);
    CHECK("file_woken", status == 0);
    munmap(ours, 2 * PAGE);
    close(fd);
}

/* ---- what C libraries make of it ---- */

static void count_up(void)
{
    for (int i = 0; i < TURNS; i++) {
        if (pthread_mutex_lock(&shared->mutex) != 0) _exit(1);
        uint32_t before = shared->count;
        if (i % 16 == 0) sched_yield();
        shared->count = before + 1;
        if (shared->count % 50 == 0) pthread_cond_broadcast(&shared->condition);
        pthread_mutex_unlock(&shared->mutex);
    }
}

static void die_owning(void)
{
    if (pthread_mutex_lock(&shared->robust) != 0) _exit(1);
    __atomic_store_n(&shared->flag, 1, __ATOMIC_SEQ_CST);
    test_sleep_ms(30);
    _exit(0);
}

static void shared_make(void)
{
    pthread_mutexattr_t mutex;
    pthread_condattr_t condition;
    pthread_barrierattr_t barrier;
    pthread_mutexattr_init(&mutex);
    pthread_condattr_init(&condition);
    pthread_barrierattr_init(&barrier);
    bool good = pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_condattr_setpshared(&condition, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED) == 0 &&
                pthread_mutex_init(&shared->mutex, &mutex) == 0 &&
                pthread_cond_init(&shared->condition, &condition) == 0 &&
                pthread_barrier_init(&shared->barrier, &barrier, CHILDREN + 1) == 0 &&
                sem_init(&shared->semaphore, 1, 0) == 0;
    good &= pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST) == 0 &&
            pthread_mutex_init(&shared->robust, &mutex) == 0;
    CHECK("make", good);
}

static void test_mutex(void)
{
    pid_t pid[CHILDREN];
    shared->count = 0;
    for (unsigned i = 0; i < CHILDREN; i++)
        pid[i] = start(count_up);
    pthread_mutex_lock(&shared->mutex);
    while (shared->count < CHILDREN * TURNS / 2)
        pthread_cond_wait(&shared->condition, &shared->mutex);
    pthread_mutex_unlock(&shared->mutex);
    CHECK("mutex", all_end(pid, CHILDREN) && shared->count == CHILDREN * TURNS);
}

static void test_robust(void)
{
    shared->flag = 0;
    pid_t pid = start(die_owning);
    while (!__atomic_load_n(&shared->flag, __ATOMIC_SEQ_CST))
        test_sleep_ms(1);
    CHECK("robust", pthread_mutex_lock(&shared->robust) == EOWNERDEAD);
    CHECK("robust_again", pthread_mutex_consistent(&shared->robust) == 0 &&
                              pthread_mutex_unlock(&shared->robust) == 0 &&
                              pthread_mutex_lock(&shared->robust) == 0 &&
                              pthread_mutex_unlock(&shared->robust) == 0);
    CHECK("robust_end", all_end(&pid, 1));
}

/* Is killed while it owns the mutex, and another one waits for that. */
static void own_for_ever(void)
{
    if (pthread_mutex_lock(&shared->robust) != 0) _exit(1);
    __atomic_store_n(&shared->flag, 1, __ATOMIC_SEQ_CST);
    for (;;)
        pause();
}

static void wait_for_owner(void)
{
    if (pthread_mutex_lock(&shared->robust) != EOWNERDEAD) _exit(1);
    _exit(pthread_mutex_consistent(&shared->robust) == 0 &&
                  pthread_mutex_unlock(&shared->robust) == 0
              ? 0
              : 2);
}

static bool killed(pid_t pid)
{
    int status;
    return kill(pid, SIGKILL) == 0 && waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) &&
           WTERMSIG(status) == SIGKILL;
}

static void test_robust_killed(void)
{
    for (int waits = 0; waits < 2; waits++) {
        shared->flag = 0;
        pid_t owner = start(own_for_ever), other = -1;
        while (!__atomic_load_n(&shared->flag, __ATOMIC_SEQ_CST))
            test_sleep_ms(1);
        if (waits) other = start(wait_for_owner);
        test_sleep_ms(30);
        CHECK(waits ? "robust_killed_waited" : "robust_killed", killed(owner));
        if (!waits) other = start(wait_for_owner);
        CHECK(waits ? "robust_told" : "robust_seen", all_end(&other, 1));
    }
    CHECK("robust_free", pthread_mutex_trylock(&shared->robust) == 0 &&
                             pthread_mutex_unlock(&shared->robust) == 0);
}

/* Lists that are none: the process that has one is killed, and nobody else's word changes. */
static struct {
    void *next;
    long offset;
    void *pending;
} bad_list;
static unsigned bad_number;

static void list_badly(void)
{
    static void *circle[2] = {&circle[1], &circle[0]};
    void *const nexts[] = {circle,        (void *)8,         (void *)-8l, (void *)0x7ffff8200000,
                           &shared->flag, (char *)circle + 3};
    bad_list.next = nexts[bad_number];
    bad_list.offset = bad_number % 2 ? 0 : (char *)&shared->flag - (char *)nexts[bad_number];
    bad_list.pending = bad_number % 2 ? (void *)&shared->flag : NULL;
    if (bad_number == 3) bad_list.pending = (void *)(~0ul << 12);
    syscall(SYS_set_robust_list, &bad_list, sizeof bad_list);
    for (;;)
        pause();
}

static void test_bad_lists(void)
{
    bool good = true;
    shared->flag = (unsigned)getpid();
    for (bad_number = 0; bad_number < 6; bad_number++) {
        pid_t pid = start(list_badly);
        test_sleep_ms(10);
        good &= killed(pid);
    }
    CHECK("bad_lists", good && shared->flag == (unsigned)getpid());
}

static void at_barrier(void)
{
    for (int i = 0; i < 5; i++) {
        __atomic_add_fetch(&shared->count, 1, __ATOMIC_SEQ_CST);
        pthread_barrier_wait(&shared->barrier);
        pthread_barrier_wait(&shared->barrier);
    }
}

static void test_barrier(void)
{
    pid_t pid[CHILDREN];
    bool good = true;
    shared->count = 0;
    for (unsigned i = 0; i < CHILDREN; i++)
        pid[i] = start(at_barrier);
    for (uint32_t i = 1; i <= 5; i++) {
        pthread_barrier_wait(&shared->barrier);
        good &= shared->count == i * CHILDREN;
        pthread_barrier_wait(&shared->barrier);
    }
    CHECK("barrier", all_end(pid, CHILDREN) && good);
}

static void take_ten(void)
{
    for (int i = 0; i < 10; i++)
        while (sem_wait(&shared->semaphore) < 0)
            ;
}

static void by_name(void)
{
    sem_t *semaphore = sem_open("/test", 0);
    if (semaphore == SEM_FAILED || sem_wait(semaphore) < 0) _exit(1);
}

static void test_semaphore(void)
{
    pid_t pid[CHILDREN];
    for (unsigned i = 0; i < CHILDREN; i++)
        pid[i] = start(take_ten);
    for (int i = 0; i < 10 * CHILDREN; i++) {
        sem_post(&shared->semaphore);
        if (i % 8 == 0) test_sleep_ms(1);
    }
    int value = -1;
    CHECK("semaphore",
          all_end(pid, CHILDREN) && sem_getvalue(&shared->semaphore, &value) == 0 && value == 0);
    mkdir("/dev/shm", 01777);
    sem_t *semaphore = sem_open("/test", O_CREAT | O_EXCL, 0600, 0);
    CHECK("sem_open", semaphore != SEM_FAILED);
    if (semaphore == SEM_FAILED) return;
    pid[0] = start(by_name);
    test_sleep_ms(20);
    sem_post(semaphore);
    CHECK("sem_named", all_end(pid, 1));
    CHECK("sem_unlink", sem_close(semaphore) == 0 && sem_unlink("/test") == 0);
}

/* ---- a peer that does not keep to it ---- */

static void spoil(void)
{
    uint64_t state = 88172645463325252ul;
    for (int i = 0; i < 3000; i++) {
        random_next(&state);
        uint32_t *word = state & 1 ? &shared->word : (uint32_t *)(state & 0x7ffffffffffc);
        futex(word, state & 2 ? FUTEX_WAKE : FUTEX_WAKE_BITSET, (uint32_t)state, NULL, NULL,
              (uint32_t)(state >> 32));
    }
    wait_once();
}

static void test_hostile(void)
{
    shared->word = 0;
    pid_t spoiler = start(spoil), waiter = start(wait_word);
    test_sleep_ms(100);
    __atomic_store_n(&shared->word, 1, __ATOMIC_SEQ_CST);
    futex(&shared->word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
    CHECK("spoiled", all_end(&waiter, 1));
    kill(spoiler, SIGKILL);
    waitpid(spoiler, NULL, 0);
}

int main(void)
{
    test_begin("futex");
    test_directory();
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    test_words();
    test_ends();
    test_file();
    shared_make();
    test_mutex();
    test_robust();
    test_robust_killed();
    test_bad_lists();
    test_barrier();
    test_semaphore();
    test_hostile();
    return test_end();
}
