/* SPDX-License-Identifier: MIT
 *
 * The monitor's parts that are no devices: its configuration's form, the CPUID policy,
 * its timers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define main exo_main /* a program's own takes its startup page */
#include "../../vmm/config.c"
#include "../../vmm/cpuid.c"
#include "../../vmm/timer.c"
#undef main

static unsigned failed;
static char printed[4096];

/* ---- what stands in for libexo and the rest of the monitor ----------------------------------- */

int exo_printf(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int n = vsnprintf(printed, sizeof(printed), format, list);
    va_end(list);
    return n;
}

void vcpu_need(struct vcpu *v, uint32_t groups) { v->exit.filled |= groups; }
uint64_t vcpu_tsc_offset(unsigned cpu) { return cpu * 1000; }
static unsigned changed[VM_CPUS];
void vcpu_timer_changed(unsigned cpu) { changed[cpu]++; }

static void check(bool good, const char *what)
{
    if (!good) failed++;
    printf("%s monitor: %s\n", good ? "PASS" : "FAIL", what);
}

/* ---- configuration --------------------------------------------------------------------------------- */

static uint32_t read_text(struct vm_config *c, const char *text)
{
    printed[0] = 0;
    return config_read(c, text, strlen(text));
}

static void test_config_good(void)
{
    static struct vm_config c;
    uint32_t errors = read_text(&c, "# a comment\n"
                                    "name = \"one\" ; kernel = 'vmlinuz'\n"
                                    "ramdisk=\"initrd\"\r\n"
                                    "root = '/dev/vda ro'\nextra = \"quiet\"\n"
                                    "memory = 96   # MiB\nvcpus = 2\n"
                                    "disk = [ 'a.img,raw,xvda,r',\n  'target=ram:8M,vdev=vdb' ]\n"
                                    "vif = [ 'mac=52:54:00:aB:00:01,bridge=lan', '' ]\n"
                                    "on_reboot = 'destroy'\nuuid = 'x'");
    check(errors == 0, "a whole configuration");
    check(!strcmp(c.name, "one") && !strcmp(c.kernel, "vmlinuz") && !strcmp(c.ramdisk, "initrd"),
          "its names");
    check(!strcmp(c.extra, "root=/dev/vda ro quiet"), "its command line");
    check(c.memory == 96ul << 20 && c.cpus == 2 && !c.on_reboot_restart, "its numbers");
    check(c.disks == 2 && !strcmp(c.disk[0].file, "a.img") && c.disk[0].read_only &&
              c.disk[1].bytes == 8ul << 20 && !c.disk[1].read_only,
          "its disks");
    check(c.cards == 2 && c.card[0].mac[3] == 0xab && !strcmp(c.card[0].bridge, "lan") &&
              !(c.card[1].mac[0] & 1) && !strcmp(c.card[1].bridge, "net1"),
          "its network cards");
}

static void test_config_bad(void)
{
    static const char *const bad[] = {
        "",
        "kernel",
        "kernel =",
        "kernel = \"open",
        "kernel = 'k' 'l'",
        "= 'k'",
        "kernel = 'k'\nmemory = 3",
        "kernel = 'k'\nmemory = 99999999999999999999",
        "kernel = 'k'\nmemory = -1",
        "kernel = 'k'\nvcpus = 0",
        "kernel = 'k'\nvcpus = 9",
        "kernel = 'k'\nunknown = 1",
        "kernel = 'k'\ndisk = [ 'a,qcow2,vda,w' ]",
        "kernel = 'k'\ndisk = [ ',raw,vda,w' ]",
        "kernel = 'k'\ndisk = [ 'ram:0M' ]",
        "kernel = 'k'\ndisk = [ 'ram:9999999999999999999G' ]",
        "kernel = 'k'\ndisk = [ 'a','b','c','d','e' ]",
        "kernel = 'k'\ndisk = [ 'a'",
        "kernel = 'k'\nvif = [ 'mac=01:00:00:00:00:00' ]",
        "kernel = 'k'\nvif = [ 'mac=52:54:00:00:00' ]",
        "kernel = 'k'\nloader = 'none'",
        "kernel = '0123456789012345678901234567890123456789012345678901234567890123'",
    };
    static struct vm_config c;
    for (unsigned i = 0; i < EXO_COUNT(bad); i++) {
        bool good = read_text(&c, bad[i]) > 0 && strstr(printed, "configuration line");
        if (!good) printf("FAIL monitor: accepted: %s\n", bad[i]);
        failed += !good;
    }
    check(failed == 0, "mistakes in a configuration are said");
}

/* ---- CPUID --------------------------------------------------------------------------------------------- */

static const uint64_t *cpuid_guest(struct vcpu *v, uint32_t leaf, uint32_t subleaf)
{
    static uint64_t reg[4];
    struct exo_vm_a *a = &v->page->a;
    *a = (struct exo_vm_a){.rax = leaf | 1ull << 40, .rcx = subleaf};
    v->page->rip.rip = 100;
    v->set = 0;
    cpuid_exit(v);
    reg[0] = a->rax, reg[1] = a->rbx, reg[2] = a->rcx, reg[3] = a->rdx;
    return reg;
}

static void test_cpuid(void)
{
    static struct exo_vcpu_page page;
    struct vcpu v = {.page = &page, .index = 1};
    cpuid_init(2);
    const uint64_t *r = cpuid_guest(&v, 1, 0);
    check(page.rip.rip == 102 && v.set == (EXO_VG_A | EXO_VG_RIP), "CPUID goes on behind itself");
    check(!(r[2] & (1u << 3 | 1u << 5)), "no MONITOR, no VMX");
    check((r[2] & (1u << 21 | 1u << 24 | 1u << 31)) == (1u << 21 | 1u << 24 | 1u << 31),
          "x2APIC, TSC deadline, hypervisor");
    check(r[1] >> 24 == 1 && (r[1] >> 16 & 0xff) == 2, "its own APIC's number, two CPUs");
    check(!(r[2] >> 27 & 1), "OSXSAVE is off");
    page.cr.cr4 = 1 << 18;
    check(cpuid_guest(&v, 1, 0)[2] >> 27 & 1, "OSXSAVE follows CR4");
    r = cpuid_guest(&v, 7, 0);
    check(!(r[1] & (1u << 2 | 1u << 10 | 1u << 16 | 1u << 20)) && !(r[2] & (1u << 3 | 1u << 7)),
          "no SGX, INVPCID, AVX-512, SMAP, PKU, shadow stacks");
    check(!(cpuid_guest(&v, 0x80000001, 0)[2] & 1u << 2), "no SVM");
    check(!(cpuid_guest(&v, 13, 1)[0] & 8u), "no XSAVES");
    check(!memcmp(leaf_find(HYPERVISOR, 0)->reg + 1, "KVMKVMKVM\0\0\0", 12), "KVM's signature");
    check(cpuid_guest(&v, 11, 1)[3] == 1 && cpuid_guest(&v, 11, 1)[1] == 2, "topology");
    r = cpuid_guest(&v, 0x77777777, 0);
    check(!(r[0] | r[1] | r[2] | r[3]), "an unknown leaf is zero");
    r = cpuid_guest(&v, 0, 99);
    check(r[0] >= 11 && r[0] <= 13, "the highest leaf");
}

/* ---- timers ------------------------------------------------------------------------------------------------ */

static char fired[8];
static unsigned fired_count;
static void fire(void *argument) { fired[fired_count++ % 8] = *(char *)argument; }

static void test_timers(void)
{
    static char names[] = "abc";
    struct vm_timer a = {.cpu = 1, .fire = fire, .argument = names},
                    b = {.cpu = 1, .fire = fire, .argument = names + 1},
                    c = {.cpu = 1, .fire = fire, .argument = names + 2};
    time_init(1000000000, 5);
    check(vm_wall_clock() == 5 && vm_tsc_hz() == 1000000000, "the clock's beginning");
    uint64_t before = vm_now();
    check(vm_now() >= before && time_host_tsc(before + 1000000) > time_base() + before,
          "time goes on");
    timer_arm(&a, 30);
    timer_arm(&b, 10);
    timer_arm(&c, 20);
    check(changed[1] == 2 && timer_next(1) == 10 && timer_next(0) == 0, "the earliest first");
    timer_arm(&b, 40);
    timer_cancel(&c);
    check(timer_next(1) == 30, "moved and cancelled");
    struct vm_timer far = {.cpu = 1, .fire = fire, .argument = names};
    timer_arm(&far, UINT64_MAX);
    while (vm_now() < 50)
        ;
    timers_run(1);
    check(fired_count == 2 && fired[0] == 'a' && fired[1] == 'b', "what is due fires, in order");
    check(timer_next(1) == UINT64_MAX && a.at == 0, "what is not due stays");
    timer_cancel(&far);
    timer_cancel(&far);
    check(timer_next(1) == 0, "none is left");
}

int main(void)
{
    test_config_good();
    test_config_bad();
    test_cpuid();
    test_timers();
    return failed != 0;
}
