/* SPDX-License-Identifier: MIT
 *
 * Virtual machines, as libexo helps a monitor with them: an env in VM mode whose address
 * space is the guest's memory, virtual CPUs in it, and the wait for their exits. What a
 * guest finds behind its exits is the monitor's own.
 *
 * A virtual machine has a pool of frames: its page tables and virtual CPUs are made of
 * them, and guest memory is whatever of them (or of other capabilities given to its env)
 * is bound: exo_bind(&vm->pool, guest address, pages, EXO_VM_MEMORY, frame, rights). The
 * same frames can be bound in our own address space through vm->from.
 */
#ifndef LIBEXO_VM_H
#define LIBEXO_VM_H

#include "../../abi/vm.h"
#include "exo.h"

/* Selectors of a virtual machine's env. */
#define EXO_VM_MEMORY 1
#define EXO_VM_FREE 2 /* from here on: a gate for each virtual CPU, then what it is given */

/* Event bit of a virtual CPU that exo_vcpu_start raises: its first exit, before its first
 * instruction, is EXO_VX_FORCED with it. */
#define EXO_VCPU_FIRST (1ul << 57)

struct exo_vm {
    struct exo_pool *from; /* from->env is EXO_SELF */
    struct exo_pool pool;
    uint32_t env; /* our selector */
    uint32_t sel_free; /* its first empty selector */
    uint32_t tables;
    uint64_t frame; /* of the env */
};

struct exo_vcpu {
    struct exo_vm *vm;
    struct exo_vcpu_page *page;
    uint32_t thread; /* our selector, all rights */
    uint32_t gate; /* selector of the virtual machine's env */
    uint64_t frame;
};

/* Makes an env in VM mode with tables * 64 selectors and a pool of `frames` frames, the
 * first a multiple of align (a power of two). bits: EXO_POOL_WORDS(frames). On an error
 * (as env_make, -EXO_E_LIMIT, -EXO_E_NOVM) nothing is left. */
long exo_vm_make(struct exo_vm *vm, struct exo_pool *from, uint64_t frames, uint64_t align,
                 uint32_t tables, uint64_t *bits);
/* Destroys it with its virtual CPUs (exo_vcpu_destroy them before). */
long exo_vm_destroy(struct exo_vm *vm);
/* Derives our capability src into its next selector, which is returned. */
long exo_vm_give(struct exo_vm *vm, uint32_t src, unsigned rights, uint64_t base, uint64_t count);

/* Makes a virtual CPU on a CPU; its page is bound at va. Its exits come to our thread
 * `monitor` (of the same CPU) in exo_vm_wait or exo_vm_serve, with the badge. */
long exo_vcpu_make(struct exo_vcpu *vcpu, struct exo_vm *vm, uint64_t va, unsigned cpu,
                   uint32_t monitor, uint64_t badge);
/* Starts it where it stopped, with a first exit FORCED, EXO_VCPU_FIRST. */
long exo_vcpu_start(struct exo_vcpu *vcpu);
/* Stops it wherever it is and gives everything of it back. */
long exo_vcpu_destroy(struct exo_vcpu *vcpu);
/* Fills these groups in at exits of a reason from now on. Not while it runs on another CPU. */
static inline long exo_vcpu_mask(struct exo_vcpu *vcpu, uint32_t reason, uint32_t groups)
{
    return exo_thread_set(vcpu->thread, EXO_SET_VMASK, reason, groups);
}

struct exo_vm_words {
    uint64_t badge, reason, filled;
    uint64_t detail[3];
};
/* Replies to the exit being served, if there is one, setting and getting groups
 * (EXO_VG_*), and waits: 0 with the next exit in *out, or the events of mask that were
 * there, or an error. All gates of the calling thread are to be virtual CPUs': its
 * registers are not cleared for a caller of another kind. */
long exo_vm_wait(uint64_t mask, uint64_t set, uint64_t get, struct exo_vm_words *out);

/* The shorter way: exits come to `server`, which returns the groups to set and to get, until
 * events of mask are there, which are returned, or an error. The server may use exo_vm_wait
 * for groups of the exit that it answers, with a mask of 0. */
struct exo_vm_reply {
    uint64_t set, get;
};
typedef struct exo_vm_reply exo_vm_server(uint64_t badge, uint64_t reason, uint64_t filled,
                                          uint64_t detail2, uint64_t detail0, uint64_t detail1);
long exo_vm_serve(uint64_t mask, exo_vm_server *server);
#endif
