/* SPDX-License-Identifier: MIT
 *
 * How the Linux library rewrites the site of a system call: code is made, run as it is,
 * rewritten as site_plan says, and run again: the stub's pointer leads to an entry of the
 * test's that answers the call. Results must be the same, the address behind the `syscall`
 * must arrive, and jumping to the old `syscall` must still make one.
 */
#define _GNU_SOURCE /* MAP_ANONYMOUS */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../../libos/linux/server/process/length.c"
#include "../../libos/linux/server/process/site.c"
#include "unit.h"

#define CODE_SIZE 4096
#define NUMBER 0x6e /* getppid: small, and the answer stays the same */
_Static_assert(NUMBER == SYS_getppid, "number");

static uint8_t *code; /* then a page of stubs, the pointer first */
static unsigned used, stubs;
uint64_t entry_number, entry_return, entry_answer;

void entry(void);
__asm__(".text\nentry:\n"
        "movq %rax, entry_number(%rip)\n"
        "movq %rcx, entry_return(%rip)\n"
        "movq entry_answer(%rip), %rax\n"
        "jmp *%rcx\n");

static void put(const void *bytes, unsigned n)
{
    memcpy(code + used, bytes, n);
    used += n;
}
#define PUT(...) put((const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

/* Instructions that leave their mark in rdi, some of which hold bytes that look like others:
 * `mov $0x6e, %eax` and `syscall` too. */
static void put_random(unsigned count)
{
    static const struct {
        uint8_t length, bytes[10];
    } pool[] = {
        {3, {0x48, 0x01, 0xf7}}, /* add %rsi, %rdi */
        {3, {0x83, 0xc7, 0x05}}, /* add $5, %edi */
        {5, {0x48, 0x8d, 0x7c, 0x37, 0xb8}}, /* lea -72(%rdi,%rsi), %rdi */
        {6, {0x69, 0xff, 0xb8, 0x6e, 0x00, 0x00}}, /* imul $0x6eb8, %edi, %edi */
        {6, {0x81, 0xf7, 0x00, 0xb8, 0x6e, 0x00}}, /* xor $0x6eb800, %edi */
        {4, {0x66, 0x83, 0xc7, 0x48}}, /* add $0x48, %di */
        {6, {0x41, 0xb8, 0x6e, 0x00, 0x00, 0x00}}, /* mov $0x6e, %r8d */
        {10, {0x48, 0xbe, 0xb8, 0x6e, 0, 0, 0, 0x0f, 0x05, 0x11}}, /* mov $..., %rsi */
        {7, {0x48, 0x81, 0xc7, 0x0f, 0x05, 0xc3, 0x00}}, /* add $0xc3050f, %rdi */
        {4, {0x48, 0xc1, 0xcf, 0x07}}, /* ror $7, %rdi */
    };
    for (unsigned i = 0; i < count; i++) {
        unsigned k = (unsigned)next(sizeof(pool) / sizeof(pool[0]));
        put(pool[k].bytes, pool[k].length);
    }
}

static void put_end(void) { PUT(0x48, 0x8d, 0x04, 0x07, 0xc3); } /* lea (%rdi,%rax), %rax; ret */

static uint64_t run(unsigned at)
{
    uint64_t (*function)(uint64_t, uint64_t);
    void *address = code + at;
    memcpy(&function, &address, sizeof(function));
    return function(0x123456789abcdef0, 77);
}

static void begin(void)
{
    memset(code, 0xf4, CODE_SIZE);
    used = 64;
    stubs = 0;
    void *target = (void *)entry;
    memcpy(code + CODE_SIZE, &target, sizeof(target));
}

/* Rewrites the `syscall` at that offset, if it can be. */
static bool rewrite(unsigned site)
{
    struct site_plan plan;
    uint64_t base = (uint64_t)code, pointer = base + CODE_SIZE;
    uint64_t stub = pointer + STUB_SIZE * (1 + stubs);
    unsigned from = site > SITE_REACH ? site - SITE_REACH : 0;
    struct site_text text = {code + from, base + from, 2 * SITE_REACH};
    if (!site_plan(&plan, &text, base + site, stub, pointer)) return false;
    memcpy(code + CODE_SIZE + STUB_SIZE * (1 + stubs++), plan.stub, STUB_SIZE);
    for (unsigned i = 0; i < plan.writes; i++)
        memcpy(code + (plan.write[i].va - base), plan.write[i].bytes, plan.write[i].length);
    return true;
}

/* Runs the function at `at` before and after its site was rewritten. */
static bool same_after(unsigned at, unsigned site)
{
    uint64_t before = run(at);
    if (!rewrite(site)) return false;
    entry_number = entry_return = 0;
    EXPECT(run(at) == before);
    EXPECT(entry_number == NUMBER);
    EXPECT(entry_return == (uint64_t)code + site + 2);
    return true;
}

/* ---- tests ------------------------------------------------------------------------- */

/* Doubt where instructions begin leaves a site as it is: that must be rare. */
static void moved_instruction(void)
{
    unsigned rewritten = 0;
    for (unsigned round = 0; round < 20000; round++) {
        begin();
        unsigned at = used;
        put_random(10 + (unsigned)next(6));
        switch (round % 4) {
        case 0:
            PUT(0xb8, NUMBER, 0, 0, 0);
            break; /* mov $n, %eax */
        case 1:
            PUT(0x48, 0xc7, 0xc0, NUMBER, 0, 0, 0);
            break; /* mov $n, %rax */
        case 2:
            PUT(0xb8, NUMBER, 0, 0, 0, 0x48, 0x8d, 0x7c, 0x37, 0xb8);
            break; /* and lea */
        case 3:
            PUT(0x48, 0x0f, 0xb6, 0x05, 4, 0, 0, 0);
            break; /* movzbq 4(%rip), %rax */
        }
        unsigned site = used;
        PUT(0x0f, 0x05, 0xeb, 0x01, NUMBER); /* syscall; jmp over the number */
        put_end();
        rewritten += same_after(at, site);
        EXPECT(code[site] == 0x0f && code[site + 1] == 0x05);
        if (failures) break;
    }
    EXPECT(rewritten > 16000); /* of 20,000 */
}

/* mov %rdx, %rax before the `syscall`: too short, so padding is needed. */
static unsigned short_site(unsigned instructions)
{
    put_random(instructions);
    PUT(0xba, NUMBER, 0, 0, 0, 0x48, 0x89, 0xd0, 0x0f, 0x05);
    return used - 2;
}

static void padding(void)
{
    unsigned rewritten = 0, possible = 0;
    for (unsigned round = 0; round < 5000; round++) {
        begin();
        used += (unsigned)next(16);
        unsigned first = used, site = short_site(12);
        put_end();
        if (used % 16 == 0) continue;
        unsigned pad = used, wide = 16 - used % 16;
        static const uint8_t nops[] = {0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0};
        if (wide >= 10) put(nops, 10);
        while (used % 16 != 0)
            PUT(0x90);
        unsigned second = used, other = short_site(12);
        put_end();
        bool one = same_after(first, site);
        EXPECT(one == (code[pad] == 0xe9) && (!one || wide >= 5));
        bool near = other + 2 - (pad + 5) <= 128, both = one && wide >= 10 && near;
        possible += (wide >= 5) + both;
        rewritten += one + (both && same_after(second, other));
        EXPECT(run(first) == run(first));
        if (failures) break;
    }
    EXPECT(rewritten * 10 > possible * 9 && rewritten > 4000);
}

static void refused(void)
{
    begin();
    unsigned at = used, site = short_site(12);
    put_end();
    PUT(0x90, 0x90, 0x90); /* too short */
    EXPECT(run(at) != 0 && !rewrite(site));

    begin(); /* reached from above: nothing stops before it */
    site = short_site(12);
    PUT(0x48, 0x8d, 0x04, 0x07, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0xc3);
    EXPECT(!rewrite(site));

    begin(); /* where a function may begin */
    site = short_site(12);
    put_end();
    while (used % 16 != 0)
        PUT(0xf8);
    code[used - 1] = 0xc3;
    PUT(0x0f, 0x1f, 0x44, 0, 0, 0xc3);
    EXPECT(!rewrite(site));

    begin(); /* not a `syscall`, and next to nothing before it */
    EXPECT(!rewrite(site + 1));
    struct site_plan plan;
    const uint8_t bytes[] = {0xb8, NUMBER, 0, 0, 0, 0x0f, 0x05};
    struct site_text text = {bytes, 0x400000, sizeof(bytes)};
    EXPECT(!site_plan(&plan, &text, 0x400005, 0x3f0020, 0x3f0000));
    EXPECT(!site_plan(&plan, &text, 0x400006, 0x3f0020, 0x3f0000));
    EXPECT(!site_plan(&plan, &text, 0x3fffff, 0x3f0020, 0x3f0000));
}

/* What looks like a `syscall` and lies within an instruction, with padding near. */
static void inside_others(void)
{
    unsigned looked = 0;
    for (unsigned round = 0; round < 5000 && !failures; round++) {
        begin();
        put_random(30);
        put_end();
        while (used % 16 != 1)
            PUT(0x90);
        PUT(0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90);
        put_random(20);
        put_end();
        for (unsigned at = 64; at < used; at++)
            if (code[at] == 0x0f && code[at + 1] == 0x05) {
                looked++;
                EXPECT(!rewrite(at));
            }
    }
    EXPECT(looked > 5000);
}

/* Instructions as compilers make them; they are never run. */
static void put_plain(unsigned bytes)
{
    static const struct {
        uint8_t length, bytes[7];
    } pool[] = {
        {3, {0x48, 0x89, 0xc7}},
        {2, {0x31, 0xc0}},
        {3, {0x83, 0xc0, 0x01}},
        {4, {0x48, 0x8b, 0x47, 0x08}},
        {1, {0x50}},
        {7, {0x8b, 0x04, 0x25, 0x10, 0x20, 0x30, 0x00}},
        {5, {0x48, 0x8d, 0x44, 0x24, 0x08}},
        {2, {0x74, 0x05}},
        {5, {0xb8, 0x27, 0x00, 0x00, 0x00}},
        {4, {0x4c, 0x8b, 0x04, 0xc8}},
        {5, {0xe8, 0x00, 0x01, 0x00, 0x00}},
        {4, {0x66, 0x0f, 0xef, 0xc0}},
    };
    for (unsigned end = used + bytes; used < end;) {
        unsigned k = (unsigned)next(sizeof(pool) / sizeof(pool[0]));
        put(pool[k].bytes, pool[k].length);
    }
}

/* Padding that lies in a constant, behind a byte like RET's, near a real `syscall`. */
static void padding_inside(void)
{
    for (unsigned round = 0; round < 50000 && !failures; round++) {
        uint8_t before[10];
        begin();
        put_plain(120);
        unsigned constant = used;
        PUT(0x48, 0xb8, 0xc3, 0x90, 0x90, 0x90, 0x90, 0x90, (uint8_t)next(256), (uint8_t)next(256));
        memcpy(before, code + constant, sizeof(before));
        put_plain(60);
        PUT(0x31, 0xc0, 0x0f, 0x05);
        unsigned site = used - 2;
        put_plain(190);
        rewrite(site);
        EXPECT(memcmp(before, code + constant, sizeof(before)) == 0);
    }
}

static void far_stub(void)
{
    begin();
    put_random(12);
    PUT(0xb8, NUMBER, 0, 0, 0, 0x0f, 0x05);
    struct site_plan plan;
    uint64_t base = (uint64_t)code;
    struct site_text text = {code, base, CODE_SIZE};
    uint64_t far = base + 0x80001000ul;
    EXPECT(!site_plan(&plan, &text, base + used - 2, far + STUB_SIZE, far));
    EXPECT(site_plan(&plan, &text, base + used - 2, base + 0x70000020ul, base + 0x70000000ul));
}

/* Who jumps to the `syscall` itself, or returns behind it, finds it. */
static void old_addresses(void)
{
    begin();
    unsigned at = used;
    put_random(12);
    PUT(0xb8, NUMBER, 0, 0, 0, 0x0f, 0x05);
    unsigned site = used - 2;
    PUT(0xc3);
    EXPECT(same_after(at, site));
    entry_number = 0;
    unsigned jumper = used;
    PUT(0xb8, NUMBER, 0, 0, 0, 0xe9);
    int32_t distance = (int32_t)(site - (used + 4));
    put(&distance, 4);
    EXPECT(run(jumper) == (uint64_t)getppid() && entry_number == 0);
}

int main(void)
{
    static const struct unit_test tests[] = {
        {"an instruction moved", moved_instruction},
        {"padding used", padding},
        {"sites that stay", refused},
        {"within an instruction", inside_others},
        {"padding in a constant", padding_inside},
        {"a stub too far away", far_stub},
        {"old addresses", old_addresses},
    };
    code = mmap(NULL, 2 * CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 2;
    entry_answer = (uint64_t)getppid();
    return TESTS_RUN("linux_site", tests);
}
