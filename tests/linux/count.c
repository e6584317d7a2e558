/* SPDX-License-Identifier: MIT
 *
 * A plugin for QEMU's emulator (docs: "QEMU TCG Plugins") that counts executed
 * instructions, of all CPUs and at all nesting levels, and writes the count down whenever
 * a marker is executed: a NOP of five bytes whose last one is the marker's number. Only
 * the functions used are declared here: the interface is stable and versioned.
 *
 *   -plugin count.so,out=FILE      lines "mark NUMBER COUNT", and "end COUNT"
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define API_VERSION 1
#define INLINE_ADD 0 /* qemu_plugin_op */
#define NO_REGISTERS 0 /* qemu_plugin_cb_flags */
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_info_t;

void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id,
                                           void (*f)(plugin_id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *insn, int op, void *to,
                                                uint64_t value);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *insn,
                                            void (*f)(unsigned, void *), int flags, void *argument);
void qemu_plugin_register_atexit_cb(plugin_id id, void (*f)(plugin_id, void *), void *argument);

EXPORT int qemu_plugin_version = API_VERSION;
EXPORT int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv);

static uint64_t count;
static FILE *out;

static void at_mark(unsigned cpu, void *number)
{
    (void)cpu;
    fprintf(out, "mark %u %lu\n", (unsigned)(uintptr_t)number, count);
    fflush(out);
}

static void translated(plugin_id id, struct qemu_plugin_tb *tb)
{
    static const uint8_t marker[4] = {0x0f, 0x1f, 0x44, 0x00};
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); i++) {
        struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
        const uint8_t *bytes = qemu_plugin_insn_data(insn);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, INLINE_ADD, &count, 1);
        if (qemu_plugin_insn_size(insn) == 5 && !memcmp(bytes, marker, 4) && bytes[4])
            qemu_plugin_register_vcpu_insn_exec_cb(insn, at_mark, NO_REGISTERS,
                                                   (void *)(uintptr_t)bytes[4]);
    }
}

static void at_end(plugin_id id, void *argument)
{
    (void)id, (void)argument;
    fprintf(out, "end %lu\n", count);
    fclose(out);
}

int qemu_plugin_install(plugin_id id, const struct qemu_info_t *info, int argc, char **argv)
{
    (void)info;
    for (int i = 0; i < argc; i++)
        if (!strncmp(argv[i], "out=", 4)) out = fopen(argv[i] + 4, "w");
    if (!out) {
        fprintf(stderr, "count.so: out=FILE is needed, and must be writable\n");
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, at_end, NULL);
    return 0;
}
