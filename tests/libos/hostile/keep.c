/* SPDX-License-Identifier: MIT
 *
 * A process that copies the capability of memory which it then gives back, with calls of the
 * exokernel and of the server below its library (libos/linux/proto.h): the copy must be gone
 * with the memory, or others' memory could be read and written through it. On Linux these
 * calls do not exist, and nothing can be kept. */
#include "hostile.h"
#include "../../../abi/exo.h"
#include "../../../build/gen/exo_stubs.h"

#define GATE 32 /* LX_SEL_THREAD: of the first thread */
#define EXTENT 128 /* LX_SEL_EXTENT */
#define OP_EXTENT 0x1000
#define OP_GIVE 0x1001
#define INDEX 100 /* of an extent that the library has no use for */
#define COPY (EXTENT + 110)
#define FRAMES 16
#define VA 0x200000000000ul /* page tables are missing here: binding says so if it comes that far */
#define RIGHTS (EXO_R | EXO_W | EXO_X)

static long server(long op, long a0, long a1, long a2)
{
    register long rdi __asm__("rdi") = GATE;
    register long rsi __asm__("rsi") = op;
    register long rdx __asm__("rdx") = a0;
    register long r8 __asm__("r8") = a1;
    register long r9 __asm__("r9") = a2;
    long rax = EXO_CALL_call;
    __asm__ volatile(
        "push %%rbx; push %%rbp; xor %%ebx, %%ebx; xor %%ebp, %%ebp; syscall; pop %%rbp;"
        "pop %%rbx"
        : "+a"(rax), "+r"(rdi), "+r"(rsi), "+r"(rdx), "+r"(r8), "+r"(r9)
        :
        : "rcx", "r10", "r11", "r12", "r13", "r14", "r15", "memory");
    return rax < 0 ? rax : rsi;
}

int main(void)
{
    test_begin("keep");
    bool other = exo_null() == -ENOSYS; /* no exokernel below: nothing to be kept */
    long frame = other ? 0 : server(OP_EXTENT, FRAMES, INDEX, 0);
    uint64_t f = (uint64_t)frame;
    CHECK("extent", other || frame > 0);
    CHECK("copied", other || exo_cap_copy(EXTENT + INDEX, COPY, RIGHTS, f, FRAMES) == 0);
    CHECK("copy_holds", other || exo_page_bind(0, VA, 1, COPY, f, RIGHTS) == -EXO_E_NOPT);
    CHECK("given_back", other || server(OP_GIVE, INDEX, 0, 0) == 0);
    CHECK("copy_is_gone", other || exo_page_bind(0, VA, 1, COPY, f, RIGHTS) == -EXO_E_SEL);
    CHECK("not_twice", other || server(OP_GIVE, INDEX, 0, 0) < 0);
    CHECK("all_well", hostile_all_well());
    return test_end();
}
