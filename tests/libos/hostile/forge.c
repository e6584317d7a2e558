/* SPDX-License-Identifier: MIT
 *
 * Random calls: of the exokernel itself, which a process can make as well as its library
 * (abi/calls.list; on Linux these numbers are unknown), and of Linux. Children make them;
 * they may come to any end; everybody else goes on. The seed is the first argument. */
#include "hostile.h"

#define EXO_FIRST 0x45580000ul
#define EXO_CALLS 64
#define SERVER_FIRST 0x1000 /* operations that only the library OS's server has */
#define CHILDREN 24
#define CALLS 400

static uint64_t state;

/* Values near to what means something: small numbers, addresses, rights, sizes. */
static uint64_t argument(void)
{
    static char memory[4096];
    uint64_t r = random_next(&state);
    switch (r >> 60) {
    case 0:
    case 1:
    case 2:
        return r & 15;
    case 3:
    case 4:
        return r & 255;
    case 5:
        return (uint64_t)(uintptr_t)memory + (r & 0xff8);
    case 6:
        return 0x7ffff7000000 + (r & 0x8fff000);
    case 7:
        return r & 0xfffff000;
    case 8:
        return 1ul << (r & 63);
    case 9:
        return 0 - (r & 255);
    case 10:
        return (r & 0xffff) << 12;
    default:
        return r;
    }
}

/* Calls that would end the system, or somebody else, rightly: whoever is root may. */
static bool left_out(long number)
{
    static const short numbers[] = {
        SYS_kill,
        SYS_tkill,
        SYS_tgkill,
        SYS_rt_sigqueueinfo,
        SYS_rt_tgsigqueueinfo,
        SYS_reboot,
        SYS_fork,
        SYS_vfork,
        SYS_clone,
        SYS_clone3,
        SYS_mount,
        SYS_umount2,
        SYS_pivot_root,
        SYS_chroot,
        SYS_swapon,
        SYS_swapoff,
        SYS_kexec_load,
        SYS_init_module,
        SYS_finit_module,
        SYS_delete_module,
        SYS_settimeofday,
        SYS_clock_settime,
        SYS_adjtimex,
        SYS_clock_adjtime,
        SYS_iopl,
        SYS_ioperm,
        SYS_vhangup,
        SYS_acct,
        SYS_ptrace,
        SYS_exit,
        SYS_exit_group,
        SYS_pause,
        SYS_unshare,
        SYS_setns,
        SYS_process_vm_writev,
        SYS_sethostname,
        SYS_setdomainname,
        SYS_quotactl,
        SYS_syslog,
        SYS_sched_setscheduler,
        SYS_sched_setattr,
        SYS_sched_setparam,
        SYS_setpriority,
        SYS_ioctl,
        SYS_mlockall,
    };
    for (size_t i = 0; i < COUNT(numbers); i++)
        if (numbers[i] == number) return true;
    return number >= 424; /* pidfd_send_signal and all later ones */
}

/* The operation in rsi may be a Linux call of the server's, for which root's rights hold. */
static uint64_t operation(void)
{
    uint64_t number;
    do
        number = argument();
    while (number < SERVER_FIRST && left_out((long)number));
    return number;
}

static void call_exo(uint64_t number)
{
    register uint64_t rax __asm__("rax") = number, rdi __asm__("rdi") = argument(),
                          rsi __asm__("rsi") = operation(), rdx __asm__("rdx") = argument(),
                          r10 __asm__("r10") = argument(), r8 __asm__("r8") = argument(),
                          r9 __asm__("r9") = argument();
    __asm__ volatile("syscall"
                     : "+r"(rax), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r10), "+r"(r8), "+r"(r9)
                     :
                     : "rcx", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
}

static void forge_exo(void)
{
    for (int i = 0; i < CALLS; i++)
        call_exo(EXO_FIRST + random_next(&state) % EXO_CALLS);
}

static void forge_linux(void)
{
    close(0);
    for (int fd = 1; fd < 3; fd++)
        dup2(open("scratch", O_RDWR | O_CREAT, 0644), fd);
    alarm(1);
    for (int i = 0; i < CALLS; i++) {
        long number = (long)(random_next(&state) % 460);
        if (!left_out(number))
            syscall(number, argument(), argument(), argument(), argument(), argument(), argument());
    }
}

static void run_children(const char *name, void (*child)(void), uint64_t seed)
{
    bool good = true;
    int ends = 0;
    for (int i = 0; i < CHILDREN; i++) {
        state = (seed + (uint64_t)i + 1) * 0x9e3779b97f4a7c15u;
        int status = hostile_run(child, 3000);
        if (status == -1)
            dprintf(1, "# %s: child %d of seed %lu does not end\n", name, i, (unsigned long)seed);
        good = good && status != -1;
        ends++;
    }
    CHECK(name, good && ends == CHILDREN);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoul(argv[1], NULL, 0) : 1;
    test_begin("forge");
    test_directory();
    mkdir("inside", 0755);
    if (chdir("inside") < 0) return 1;
    hostile_all_well();
    long before = hostile_free_kib();
    run_children("exokernel_calls", forge_exo, seed);
    CHECK("exokernel_calls_after", hostile_all_well());
    run_children("linux_calls", forge_linux, seed + 1000);
    CHECK("linux_calls_after", hostile_all_well());
    CHECK("given_back", hostile_given_back(before, 4096));
    return test_end();
}
