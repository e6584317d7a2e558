/* SPDX-License-Identifier: MIT
 *
 * /dev/fuse (libos/linux/server/files/fuse.h) against servers that lie: processes make random
 * calls on a mount, come again or do not, while replies are of the right form and mean anything,
 * or are of no form. Nothing of it stays when the mount is gone. */
#include "lx_files.h"

#define USERS 3 /* processes 1 to 3; 0 is the server */
#define MOUNTS 300
#define STEPS 4000

static struct user {
    call_function *call; /* that it waits in; NULL: none */
    uint64_t a[6];
} users[USERS + 1];
static uint8_t data[80000];
static int device;

/* ---- the server ---- */

static uint32_t dice(uint32_t n) { return (uint32_t)next(n); }
#include "../libos/hostile/fuse_lies.h"

static void serve(void)
{
    static _Alignas(16) uint8_t in[80000], out[DATA_MAX + 8192];
    const struct fuse_in_header *request = (const struct fuse_in_header *)in;
    struct fuse_out_header *header = (struct fuse_out_header *)out;
    long r = host_read(0, (uint64_t)device, in, sizeof(in));
    if (r < (long)sizeof(*request)) return;
    EXPECT((uint64_t)r == request->len);
    memset(out, 0, 8192);
    size_t n = reply_lie(request, out + sizeof(*header));
    bool init = request->opcode == FUSE_INIT;
    if (!init && next(10) == 0) n = next(200);
    int error = !init && next(6) == 0 ? -(int)next(140) : 0;
    if (error && next(10)) n = 0;
    struct fuse_out_header right = {(uint32_t)(sizeof(*header) + n), error, request->unique};
    *header = right;
    if (next(20) == 0) header->unique += next(9) - 4;
    if (next(20) == 0) header->len = (uint32_t)next(200);
    long written = host_write(0, (uint64_t)device, out, right.len);
    *header = right; /* but for once in a while: its mount would wait for ever */
    if (written < 0 && next(300)) host_write(0, (uint64_t)device, out, right.len);
}

/* ---- who uses it ---- */

static bool mounted; /* no user has unmounted it: names would be those of tmpfs then */

static bool waits(long r) { return r == -LX_WAIT || r == -LX_WAIT_FIRM; }

static void path_any(unsigned i, size_t offset)
{
    char *to = (char *)host_bytes(i) + offset;
    unsigned depth = (unsigned)next(4);
    strcpy(to, "/mnt");
    while (depth--)
        sprintf(to + strlen(to), "/%c", (char)('a' + next(5)));
}

/* A call of load_contents' own: of a descriptor, as mmap and exec make it. */
static long contents_wanted(struct thread *thread, const uint64_t a[6])
{
    uint32_t frames[4];
    struct file *file = fd_file(thread, a[0]);
    long r = file ? file_load(file) : -EBADF;
    return r < 0 ? r : file_pages(file, next(3) ? next(30) : 1ul << next(52), 4, frames, false);
}

static const struct {
    call_function *call;
    uint64_t a[6]; /* FD, BUFFER: what it says */
} calls[] = {
#define FD 1000
#define BUFFER 1001
#define LENGTH 1002
#define CWD ((uint64_t)AT_FDCWD)
    {call_open, {0, O_RDWR}},
    {call_open, {0, O_RDWR | O_CREAT, 0644}},
    {call_open, {0, O_RDWR | O_CREAT | O_EXCL, 0644}},
    {call_open, {0, O_RDWR | O_CREAT | O_TRUNC, 0644}},
    {call_open, {0, O_RDONLY | O_DIRECTORY}},
    {call_read, {FD, BUFFER, LENGTH}},
    {call_pread64, {FD, BUFFER, LENGTH, 1ul << 45}},
    {call_write, {FD, BUFFER, LENGTH}},
    {call_pread64, {FD, BUFFER, LENGTH, 5000}},
    {call_pwrite64, {FD, BUFFER, LENGTH, 5000}},
    {call_getdents64, {FD, BUFFER, LENGTH}},
    {call_lseek, {FD, 0, SEEK_END}},
    {call_fstat, {FD}},
    {call_fsync, {FD}},
    {call_ftruncate, {FD, 3000}},
    {call_close, {FD}},
    {call_close, {FD}},
    {contents_wanted, {FD}},
    {call_sendfile, {FD, FD, ~0ul, LENGTH}},
    {call_stat, {0}},
    {call_lstat, {0}},
    {call_statx, {CWD, 0, 0, 0}},
    {call_statfs, {0}},
    {call_mkdir, {0, 0755}},
    {call_rmdir, {0}},
    {call_unlink, {0}},
    {call_rename, {0, SECOND}},
    {call_renameat2, {CWD, 0, CWD, SECOND, RENAME_EXCHANGE}},
    {call_link, {0, SECOND}},
    {call_symlink, {0, SECOND}},
    {call_readlink, {0, BUFFER, 100}},
    {call_mknod, {0, S_IFIFO | 0644}},
    {call_truncate, {0, 100}},
    {call_chmod, {0, 0700}},
    {call_chown, {0, 3, 4}},
    {call_utimes, {0, ~0ul}},
    {call_chdir, {0}},
    {call_umount2, {0, 0}},
};

static uint64_t argument(uint64_t a)
{
    return a == FD ? next(8) : a == BUFFER ? POINTER(data) : a == LENGTH ? next(sizeof(data)) : a;
}

static void call_end(struct user *user, long r)
{
    EXPECT(r >= -LX_WAIT);
    if (user->call == call_umount2 && (r == 0 || waits(r))) mounted = false;
    if (!waits(r)) user->call = NULL;
}

static void call_new(unsigned i)
{
    struct user *user = &users[i];
    uint64_t which = next(EXO_COUNT(calls));
    if (calls[which].call == call_umount2 && next(20)) return;
    path_any(i, 0);
    path_any(i, SECOND);
    for (unsigned j = 0; j < 6; j++)
        user->a[j] = argument(calls[which].a[j]);
    struct thread *thread = host_thread(i);
    if (thread->request) fuse_aside(thread, true);
    user->call = calls[which].call;
    call_end(user, calls[which].call(thread, user->a));
}

static void call_again(unsigned i)
{
    struct user *user = &users[i];
    struct thread *thread = host_thread(i);
    long r = 0;
    if (!thread->request || !fuse_again(thread, &r)) {
        thread->again = true;
        r = user->call(thread, user->a);
        thread->again = false;
        if (thread->request && !waits(r)) fuse_drop(thread);
    }
    call_end(user, r);
}

static void step(unsigned i)
{
    if (!users[i].call) {
        call_new(i);
    } else if (next(30) == 0) { /* a signal */
        users[i].call = NULL;
    } else {
        struct thread *thread = host_thread(i);
        if (next(10) == 0 && thread->request) fuse_aside(thread, false);
        call_again(i);
    }
}

/* ---- the test ---- */

static void mount_new(void)
{
    char options[64];
    device = (int)CALL(open, PATH("/dev/fuse"), O_RDWR);
    sprintf(options, "fd=%d,rootmode=40755", device);
    at(100, "/mnt");
    at(200, "fuse.test");
    at(300, options);
    at(0, "test");
    EXPECT(device >= 0 && CALL(mount, 0, 100, 200, 0, 300) == 0);
    mounted = true;
}

static void round_run(void)
{
    served_names.most = next(2) ? 2u << 20 : 16384; /* room for few */
    mount_new();
    for (unsigned i = 0; i < STEPS && mounted; i++) {
        uint64_t who = next(USERS + 3);
        if (who == 0 || who > USERS)
            serve();
        else
            step((unsigned)who);
        clock_now += next(100000000);
        if (timer_at && clock_now >= timer_at) timers_run();
    }
    bool first = next(2); /* the server ends before who uses it, or after */
    if (first) CALL(close, (uint64_t)device);
    for (unsigned i = 1; i <= USERS; i++) {
        fuse_drop(host_thread(i));
        fds_end(&processes[i]);
        fds_init(&processes[i]);
        users[i].call = NULL;
    }
    CALL(umount2, PATH("/mnt"), MNT_DETACH);
    if (!first) CALL(close, (uint64_t)device);
}

static void test_lies(void)
{
    struct files_counts before, after;
    for (unsigned i = 0; i <= USERS; i++) {
        host_process(i);
        processes[i].threads[0] = &host_threads[i];
    }
    EXPECT(files_start(NULL, 0) == 0);
    for (unsigned i = 0; i <= USERS; i++)
        fds_init(&processes[i]);
    host_thread(0);
    EXPECT(CALL(mkdir, PATH("/mnt"), 0755) == 0);
    files_count(&before);
    for (unsigned i = 0; i < MOUNTS; i++) {
        round_run();
        files_count(&after);
        EXPECT(after.inodes == before.inodes && after.entries == before.entries);
        EXPECT(after.files == 0 && after.pages == before.pages && messages == 0);
    }
}

int main(void)
{
    static const struct unit_test tests[] = {{"servers that lie", test_lies}};
    return TESTS_RUN("linuxd fuse", tests);
}
