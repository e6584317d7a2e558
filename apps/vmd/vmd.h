/* SPDX-License-Identifier: MIT
 *
 * vmd: makes virtual machines at run time, out of what root gave it: its memory, its time
 * slots, the boot archive. Each machine is a monitor (vmm/) in an env of its own, a child of
 * ours; each bridge that their network cards name is a switch (apps/switch), a child too.
 * Clients talk to it by streams (lib/exo/stream.h) over channels with the tag vm: docs/manage.md
 * says what. One thread; it waits for nobody: a client, a monitor or a switch that does not
 * answer, lies or dies harms nobody else. */
#ifndef VMD_H
#define VMD_H
#include "../../lib/exo/kept.h"
#include "../../lib/exo/stream.h"
#include "../../vmm/vmm.h"

#define MACHINES 8
#define BRIDGES 2
#define PORTS 8 /* of one bridge */
#define CLIENTS 4
#define NAME 32

/* Events of our thread. */
#define EV_MACHINE(i) (1ul << (i)) /* a channel of machine i */
#define EV_FAULT(i) (1ul << (8 + (i))) /* it ended, or died */
#define EV_BRIDGE(i) (1ul << (16 + (i)))
#define EV_BRIDGE_FAULT(i) (1ul << (20 + (i)))

/* ---- channels made at run time (wire.c) ------------------------------------------------- */

/* A channel between us and a child of ours. */
struct wire {
    struct exo_channel channel; /* our end */
    uint64_t va, frame, count; /* where it lies; count 0: there is none */
    uint32_t our_event, their_event; /* selectors: ours, and the child's */
};
/* Makes one at va with rings of `ring` bytes and gives the child, which has not been started,
 * its end; `bit` of our events tells us of it. On an error nothing is left. */
long wire_make(struct wire *wire, struct exo_child *child, const char *tag, uint64_t va,
               uint32_t ring, uint64_t bit);
/* After the child was destroyed. */
void wire_end(struct wire *wire);

/* ---- a child and what it is made of (children.c) -------------------------------------------- */
struct made {
    struct exo_child child;
    uint64_t *bits; /* of child.pool, until it runs */
    uint64_t env, tables, memory, count; /* its frames, for the leak check */
    uint32_t fault; /* our event */
    uint64_t slots[EXO_MAX_CPUS]; /* time slots that it has, a bit each of ours */
};
/* Makes it out of an ELF file, with `frames` frames of memory, on a CPU. Explains errors
 * through exo_printf; on an error nothing is left. */
long made_make(struct made *made, const struct exo_file *file, const char *name, uint64_t frames,
               uint32_t selectors, unsigned cpu, uint64_t fault_bit);
long made_start(struct made *made);
/* Says through exo_printf how it ended: its fault event came. */
void made_fault(const struct made *made);
/* Destroys it, and says so if anything of it stays in use. */
void made_end(struct made *made);
/* Frames of [frame, frame + n) that are bound or typed; 0 where we have no exposed tables. */
uint64_t frames_in_use(uint64_t frame, uint64_t n);

/* Our time slots. slots_init keeps a few for us and takes the others from our thread;
 * slots_give gives up to n of a CPU to a child that has not been started. */
void slots_init(void);
long slots_give(struct made *made, unsigned cpu, unsigned n);

/* ---- bridges (bridge.c) --------------------------------------------------------------------- */
struct bridge;
/* Connects the child, which has not been started, to that bridge, which is made if need be.
 * The child's channel has the tag `tag`. The port's number in *port. Explains errors. */
long bridge_join(const char *name, struct exo_child *child, const char *tag, struct bridge **bridge,
                 unsigned *port);
/* After the child was destroyed. */
void bridge_leave(struct bridge *bridge, unsigned port);
/* What the i-th bridge whose switch lives is made of; NULL: there are no more. */
const struct made *bridge_made(unsigned i);
/* Looks at all bridges: true when there was something. */
bool bridges_look(uint64_t events);

/* ---- machines (machine.c) ---------------------------------------------------------------------- */
enum machine_state { MACHINE_FREE, MACHINE_MAKING, MACHINE_RUNS, MACHINE_ENDED };

struct machine_files { /* what the monitor finds before the boot archive: a cpio archive */
    uint64_t va, frame, pages, bytes;
    uint64_t used; /* bytes written so far */
};
struct machine {
    enum machine_state state;
    uint32_t id;
    struct vm_config config;
    struct machine_files files;
    struct made made;
    uint64_t ram, ram_count; /* frames */
    uint32_t borrowed; /* our selector of them, when they are on loan: else 0, and they are ours */
    struct wire console, control, log;
    uint64_t shared_frame; /* 0: none */
    struct {
        struct bridge *bridge; /* NULL: none */
        unsigned port;
    } card[VM_CARDS];
    struct exo_kept kept; /* what it wrote to its console */
    unsigned viewers; /* sessions that still read it */
    struct session *asker; /* waits for the monitor's answer */
    unsigned stale; /* answers that nobody waits for any more */
    char answer[160];
    size_t answer_length;
};
extern struct machine machines[MACHINES];

/* A machine that runs, by its name or number; NULL: none. */
struct machine *machine_named(const char *name);
/* It is no virtual machine: a program that runs in the env which the monitor would have. */
bool machine_is_program(const struct machine *machine);
/* A place for one, or NULL: there are MACHINES. */
struct machine *machine_reserve(void);
/* Memory for `bytes` of files: 0, -EXO_E_LIMIT. */
long machine_files_make(struct machine *machine, uint64_t bytes);
/* Gets the guest's memory, as machine->config says; from root, on loan, where we have not as much.
 * 0; -EXO_E_AGAIN: others were asked for it, to be tried again; or an error that it explained. */
long machine_memory(struct machine *machine);
/* Makes and starts it as machine->config says, with that memory; the configuration's own text is the file
 * MACHINE_CONFIG of machine->files. Its number, or an error that it explained. */
#define MACHINE_CONFIG "vm.cfg"
long machine_start(struct machine *machine);
/* Ends it at once, whatever it does; its place is free when nobody reads its console. */
void machine_end(struct machine *machine);
/* A session that had machine->viewers counted goes. */
void machine_unview(struct machine *machine);
/* Takes what its channels have; true when there was something. */
bool machine_look(struct machine *machine);
void machine_fault(struct machine *machine);
/* What it shows of itself. Only to be shown: the monitor writes what it likes. */
const volatile struct vm_shared *machine_shared(const struct machine *machine);
/* Ticks that its virtual CPUs were not halted. */
uint64_t machine_ticks(const struct machine *machine);
/* Sends an order for a session, whose answer session_answer gets. False: the monitor takes
 * none now. */
bool machine_order(struct machine *machine, struct session *session, const char *order);
void machine_forget(struct machine *machine, struct session *session);

/* ---- cpio archives (files.c) --------------------------------------------------------------------- */
/* Bytes of one file in an archive; 0: the size is beyond what one can have. */
uint64_t cpio_size(const char *name, uint64_t bytes);
/* The end of an archive: its bytes; and writes it. */
uint64_t cpio_end_size(void);
uint64_t cpio_end(char *to);
/* Writes the header; the file's bytes follow. How many bytes it was. */
uint64_t cpio_begin(char *to, const char *name, uint64_t bytes);
/* Zeroes up to where the next header goes, for a file of that size: how many. */
uint64_t cpio_pad(char *to, uint64_t bytes);

/* ---- what clients ask for (session.c, create.c, report.c) ---------------------------------------- */
#define TEXT_MAX 40960

struct text { /* a reply under way */
    char *at; /* TEXT_MAX bytes */
    size_t used, sent;
    bool line; /* in the middle of a line of the body */
};
void text_add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Lines of the body: each begins with a space. */
void text_body(struct text *text, const char *lines, size_t n);

enum session_state {
    SESSION_LINE, /* reads a request */
    SESSION_CREATE, /* create.c has it */
    SESSION_ORDER, /* an order waits until the monitor takes one */
    SESSION_ANSWER, /* waits for the monitor's answer */
    SESSION_CONSOLE, /* shows a machine's console until one of both ends */
};
struct session {
    struct exo_stream *stream; /* NULL: free */
    enum session_state state;
    char line[256];
    size_t length;
    struct text text;
    struct machine *machine;
    uint32_t id; /* of the machine, while an order waits for it */
    char order[64];
    struct exo_kept_reader reader;
    uint64_t deadline; /* time-stamp counter; 0: none */
    struct create *create;
};
#define MEMORY_US 5000000 /* others get so long to give memory back */
#define MEMORY_LOOK_US 10000 /* meanwhile it is looked for every so often */
void session_begin(struct session *session, struct exo_stream *stream);
/* Goes on as far as it can; true when something was done. */
bool session_look(struct session *session);
void session_answer(struct session *session, const char *answer);
/* The machine has ended: what waits for it is told. */
void session_machine_ended(struct session *session);
/* The session shows the machine's console from now on. */
void session_console(struct session *session, struct machine *machine);
/* The reply's last line. */
void session_ok(struct session *session);
void session_error(struct session *session, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The next line that the client sent, without its end; false: not there yet. A line that is
 * too long is cut. */
bool session_line(struct session *session);

/* create.c: the dialogue that makes a machine. */
void create_begin(struct session *session, char *bytes);
bool create_look(struct session *session);
void create_drop(struct session *session);
/* Makes one from a configuration in the boot archive; explains errors. */
long create_file(const char *name);

/* report.c */
void report_stats(struct text *text);
void report_reasons(struct text *text);
void report_info(struct text *text);
void report_envs(struct text *text);

/* ---- the log (log.c) ---------------------------------------------------------------------------------- */
/* From now on exo_printf goes to the log, and to a channel with the tag log. */
void log_open(void);
void log_read(struct text *text);
/* What exo_printf says meanwhile goes to the text's body (NULL: no more); alone: and not to
 * the log. */
void log_capture(struct text *text, bool alone);
void log_write(const char *text, size_t n);
#endif
