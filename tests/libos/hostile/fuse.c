/* SPDX-License-Identifier: MIT
 *
 * Servers of file systems (/dev/fuse) that say nothing, end, or lie: who uses their mount gets
 * errors or waits until a signal comes, all others go on, and what was taken comes back. */
#include <dirent.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/statfs.h>
#include "hostile.h"

static uint64_t seed;

static uint32_t dice(uint32_t n) { return (uint32_t)(random_next(&seed) % n); }
#include "fuse_lies.h"

static int device;
static const char *directory = "mnt";

static bool mount_new(void)
{
    char options[80];
    device = open("/dev/fuse", O_RDWR);
    if (device < 0) return false;
    snprintf(options, sizeof options, "fd=%d,rootmode=40755,user_id=0,group_id=0", device);
    return mount("hostile", directory, "fuse", 0, options) == 0;
}

static void mount_end(void)
{
    close(device);
    umount2(directory, MNT_DETACH);
}

/* ---- a server ------------------------------------------------------------------------------ */

static _Alignas(16) uint8_t in[DATA_MAX + 8192], out[DATA_MAX + 8192];

static ssize_t answer(uint64_t unique, int error, size_t n)
{
    struct fuse_out_header *header = (struct fuse_out_header *)out;
    *header = (struct fuse_out_header){(uint32_t)(sizeof *header + n), error, unique};
    return write(device, out, sizeof *header + n);
}

/* Lies for as long as it is asked. */
static void serve_lies(void)
{
    const struct fuse_in_header *header = (const struct fuse_in_header *)in;
    while (read(device, in, sizeof in) > 0) {
        uint8_t *to = out + sizeof(struct fuse_out_header);
        memset(to, 0, 4096);
        size_t n = reply_lie(header, to);
        if (header->opcode == FUSE_INIT) {
            answer(header->unique, 0, n);
            continue;
        }
        if (dice(10) == 0) n = dice(200);
        if (dice(20) == 0) answer(header->unique + dice(5) - 2, 0, n);
        if (dice(50) == 0) continue;
        answer(header->unique, dice(8) ? 0 : -(int)dice(140), dice(8) ? n : 0);
    }
    _exit(0);
}

/* Answers the first request alone. */
static void serve_init(void)
{
    const struct fuse_in_header *header = (const struct fuse_in_header *)in;
    if (read(device, in, sizeof in) > 0)
        answer(header->unique, 0, reply_lie(header, out + sizeof(struct fuse_out_header)));
    pause();
}

static void serve_nothing(void) { pause(); }

static pid_t server_start(void (*serve)(void))
{
    pid_t pid = fork();
    if (pid == 0) serve();
    close(device);
    device = -1;
    return pid;
}

static void server_end(pid_t pid)
{
    int status;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
}

/* ---- who uses the mount ---------------------------------------------------------------------- */

static const char *name_any(void)
{
    static char names[4][32];
    static unsigned turn;
    char *name = names[turn++ % 4];
    char a = (char)('a' + dice(NAMES)), b = (char)('a' + dice(NAMES));
    snprintf(name, 32, dice(2) ? "mnt/%c" : "mnt/%c/%c", a, b);
    return name;
}

static void contents_use(void)
{
    static char data[70000];
    int fd = open(name_any(), O_RDWR | (dice(2) ? O_CREAT : 0) | (dice(4) ? 0 : O_TRUNC), 0644);
    if (fd < 0) return;
    if (read(fd, data, dice(sizeof data)) < 0 || write(fd, data, dice(sizeof data)) < 0) data[0]++;
    void *map = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, fd, 0);
    if (map != MAP_FAILED) munmap(map, 8192);
    if (fsync(fd) < 0 || ftruncate(fd, dice(9000)) < 0) data[0]++;
    close(fd);
}

static void names_use(void)
{
    struct statfs usage;
    struct stat state;
    char target[100];
    DIR *list = opendir(dice(2) ? directory : name_any());
    for (unsigned i = 0; list && i < 50 && readdir(list); i++)
        ;
    if (list) closedir(list);
    mkdir(name_any(), 0755);
    rename(name_any(), name_any());
    symlink("a", name_any());
    link(name_any(), name_any());
    unlink(name_any());
    rmdir(name_any());
    stat(name_any(), &state);
    chmod(name_any(), 0700);
    statfs(directory, &usage);
    if (readlink(name_any(), target, sizeof target) < 0) target[0] = 0;
}

static void use(void)
{
    seed += (uint64_t)getpid();
    for (unsigned i = 0; i < 60; i++) {
        names_use();
        contents_use();
        char *const arguments[] = {(char *)"x", NULL};
        if (dice(20) == 0 && fork() == 0) {
            execv(name_any(), arguments);
            _exit(1);
        }
    }
}

static void look(void)
{
    struct stat state;
    stat("mnt/a", &state);
}

/* ---- the tests ------------------------------------------------------------------------------- */

static void look_alarmed(void)
{
    alarm(1);
    look();
}

static bool ended_by(int status, int signal)
{
    return WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

static void test_silent(void)
{
    CHECK("mount", mount_new());
    pid_t server = server_start(serve_nothing);
    CHECK("silent.killed", ended_by(hostile_run(look, 300), SIGKILL));
    CHECK("silent.interrupted", ended_by(hostile_run(look_alarmed, 8000), SIGALRM));
    CHECK("silent.others", hostile_all_well());
    server_end(server);
    int status = hostile_run(look, 3000);
    CHECK("silent.ended", WIFEXITED(status));
    mount_end();
}

/* It ends while somebody waits for it. */
static void test_ends(void)
{
    int status;
    bool good = mount_new();
    pid_t server = server_start(serve_init), user = fork();
    if (user == 0) {
        look();
        _exit(23);
    }
    test_sleep_ms(200);
    server_end(server);
    good = good && waitpid(user, &status, 0) == user;
    CHECK("ends.told", good && WIFEXITED(status) && WEXITSTATUS(status) == 23);
    mount_end();
    CHECK("ends.others", hostile_all_well());
}

static void test_lies(void)
{
    bool well = true;
    long before = 0;
    for (unsigned i = 0; i < 12 && well; i++) {
        if (i == 2) before = hostile_free_kib(); /* what such processes need is there by now */
        well = mount_new();
        seed = 1234567 * (i + 1);
        pid_t server = server_start(serve_lies);
        hostile_run(use, 4000);
        well = well && hostile_all_well();
        server_end(server);
        mount_end();
        while (waitpid(-1, NULL, WNOHANG) > 0)
            ;
    }
    CHECK("lies.others", well);
    CHECK("lies.given_back", hostile_given_back(before, 1024));
}

/* Replies to nothing, and of no form. */
static void test_forms(void)
{
    CHECK("forms.mount", mount_new());
    CHECK("forms.request", read(device, in, sizeof in) > 0);
    uint64_t unique = ((struct fuse_in_header *)in)->unique;
    struct fuse_out_header *header = (struct fuse_out_header *)out;
    *header = (struct fuse_out_header){sizeof *header, 0, unique};
    CHECK_ERROR("forms.short", write(device, out, 8), EINVAL);
    header->len = 100;
    CHECK_ERROR("forms.length", write(device, out, sizeof *header), EINVAL);
    header->len = sizeof *header;
    header->error = 5;
    CHECK_ERROR("forms.error", write(device, out, sizeof *header), EINVAL);
    header->error = 0;
    header->unique = unique + 77778;
    CHECK_ERROR("forms.unknown", write(device, out, sizeof *header), ENOENT);
    CHECK_ERROR("forms.room", read(device, in, 100), EINVAL);
    mount_end();
    int status = hostile_run(look, 3000);
    CHECK("forms.ended", WIFEXITED(status));
}

int main(void)
{
    test_begin("fuse");
    test_directory();
    int module = open("/lib/fuse.ko", O_RDONLY);
    if (module >= 0 && access("/dev/fuse", F_OK) < 0) syscall(SYS_finit_module, module, "", 0);
    if (mkdir(directory, 0755) < 0) return 1;
    test_forms();
    test_silent();
    test_ends();
    test_lies();
    return test_end();
}
