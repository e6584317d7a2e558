/* SPDX-License-Identifier: MIT
 *
 * root: the first environment. Holds everything at boot and hands it out as the
 * archive's file "config" says. */
#ifndef ROOT_H
#define ROOT_H
#include "../lib/exo/channel.h"

#define ROOT_PROGRAMS 32
#define ROOT_CHANNELS 64
#define ROOT_PORTS 4 /* port ranges a program can be given */

/* One line of the configuration. */
struct root_program {
    char name[32];
    char file[32]; /* of the archive; the name where not given */
    char args[256];
    uint32_t line;
    uint32_t cpu;
    uint32_t slots; /* time slots on its own CPU ... */
    uint32_t slots_other; /* ... and on every other one */
    uint32_t selectors; /* capability-table frames */
    uint64_t memory; /* bytes */
    uint64_t block; /* bytes of a second range, aligned to its size; 0 none */
    uint64_t loan; /* bytes that it has on loan; 0 none */
    bool console, tables, wait, irqs, archive, borrow;
    uint32_t nports;
    struct {
        uint32_t first, last;
    } ports[ROOT_PORTS];
};

/* Two programs that talk to each other. */
struct root_channel {
    char side[2][32]; /* their names */
    char tag[2][16]; /* what each side sees; empty: none */
    uint32_t line;
    uint32_t size; /* bytes of a ring */
};

struct root_config {
    struct root_program programs[ROOT_PROGRAMS];
    struct root_channel channels[ROOT_CHANNELS];
    uint32_t count;
    uint32_t nchannels;
    uint32_t errors;
    uint32_t shutdown_port; /* 0: stay and idle */
    uint32_t shutdown_value;
    uint32_t shutdown_size;
};

/* config.c: reads the text; prints what is wrong with which line, counts it in
 * config->errors, leaves that line out. */
void config_read(struct root_config *config, const char *text, uint64_t size);

/* programs.c: starts all, serves them, ends when those with wait=yes have ended. */
void programs_run(const struct root_config *config);
/* A program that was made and has not ended, by its index or name; NULL: none. */
struct exo_child *program_child(uint32_t index);
struct exo_child *program_named(const char *name, uint32_t *index);
/* Frames of [frame, frame + n) that are bound or typed. */
uint64_t frames_in_use(uint64_t frame, uint64_t n);

/* channels.c: gives both programs of each channel what they need to use it; says so
 * where that fails. To be called when all are made and none has been started. */
void channels_make(const struct root_config *config);
/* Tells the peers of that program, which has been destroyed, that it has ended. */
void channels_end(uint32_t index);

/* loan.c: memory on loan, of programs by their index. loan_give: before the program is started; one
 * that does not get it can see that it has none. loan_call: the calls EXO_SERVICE_BORROW to REFUSE,
 * whose words they replace. loan_end: the program has been destroyed. loan_named: what the page of
 * names says of it; loan_changed is called when that changes. */
void loan_give(uint32_t index, uint64_t frames);
void loan_call(uint32_t index, bool may_borrow, uint64_t word[4]);
void loan_end(uint32_t index);
void loan_named(uint32_t index, uint32_t *first, uint32_t *frames, uint32_t *held);
void loan_changed(uint32_t index);

/* clock.c: seconds since 1970 of the battery-backed clock, which is taken to show UTC, through a
 * ports capability that has ports 0x70 and 0x71; 0: they are not there, or it shows no time. */
uint64_t clock_read(uint32_t ports);

/* start.c: the pool that programs get their memory from. */
extern struct exo_pool root_ram[EXO_RAM_MAX];
extern uint32_t root_ram_count;
/* A pool with at least `frames` consecutive free frames, or NULL. */
struct exo_pool *root_pool_for(uint64_t frames);
#endif
