/* SPDX-License-Identifier: MIT
 *
 * The server's three ranges of memory: objects (exo.pool, never touched where it was given
 * away), pages of files and memory of processes (the block, all of it mapped). Memory of
 * processes goes out as extents, of LX_UNIT frames or multiples, each by a capability of
 * its own in the process's table. */
#ifndef LX_MEMORY_H
#define LX_MEMORY_H
#include "../../../../lib/exo/exo.h"
#include "../server.h"

#define LX_HANDLES 256 /* mapped files of a process */
#define LX_OBJECTS_MORE 64
#define FILE_PAGES_MAX 262144 /* 1 GiB */
#define LX_FOR_FILE 3 /* kind of extent: a file's own pages, mapped to be written */
#define LX_EXTENT_OBJECTS 0xffff /* in process_memory.extent: its frames are in `more` */

struct process_memory {
    uint32_t env; /* our selector */
    uint32_t place; /* whose, in the process table; to others it may be lent (borrow.h) */
    uint64_t env_frame, objects; /* first frames */
    uint32_t objects_used; /* from there on they are the library's to use */
    struct thread *husk; /* the env has no process, and this thread: husk.h */
    bool odd; /* it has or had a second thread, or a ring: no husk */
    uint16_t extent[LX_EXTENTS]; /* number of the extent at LX_SEL_EXTENT + i, 0 none */
    uint32_t extents; /* highest in use + 1 */
    uint64_t inherited[LX_EXTENTS / 64]; /* those that came from its parent, a bit each */
    struct { /* frames for page tables and threads beyond the first ones */
        uint32_t first, count;
    } more[LX_OBJECTS_MORE];
    uint32_t more_count;
    struct { /* of the other threads: frames of the object, extent of window and stacks */
        uint32_t frames;
        uint16_t extent;
    } thread[LX_THREADS];
    uint16_t data[LX_DATA_CHUNKS]; /* private block, chunks of library data */
    uint32_t data_count;
    uint32_t swapped; /* slots of the swap store that it has (swap.c) */
    uint32_t backs; /* of: what its vfork's child leaves it; NULL: none yet */
    struct lx_back *back;
    struct file *handle[LX_HANDLES];
    uint32_t handles; /* highest in use + 1 */
    struct lx_siginfo info[64]; /* of the last signal of each number */
};

/* Whose memory it is that the process runs in: his place in the process table. */
static inline unsigned memory_place(const struct process *p) { return p->memory->place; }
static inline const struct process *memory_owner(const struct process *p)
{
    return p->borrows ? p->borrows : p;
}

/* Splits the block and maps it; prints why not. */
long memory_init(void);
/* Pages of files (page_new): all that the block has for them are free. */
void pages_init(void);
/* One more extent (or one less: -1) has these pages. */
void runs_count(uint32_t first, uint32_t count, int more);
/* The page is not the file's any more: extents that have it are taken from those that mapped it so. */
void runs_cut(uint32_t frame);
/* A piece of process memory for that process, selector 0: no capability is made yet. movable: its
 * library can empty it. Its number, or -ENOMEM. */
long extent_new(struct process *process, uint32_t frames, unsigned purpose, bool movable);
uint32_t extent_first(uint16_t number);
uint32_t extent_count(uint16_t number);
/* The process does not have it any more; the last one gives the frames back. */
void extent_put(struct process *process, uint16_t number);
/* It executes another program: what it inherited is not its any more. False: it holds that up. */
bool extents_exec(struct process *process);
/* The same of files that the old program had mapped: all handles but the new one's own. */
void handles_exec(struct process *process, uint64_t keep);
uint64_t extent_ref(uint16_t number); /* its capability, for cap_derive */
/* Makes the capability at that selector of the process's env: 0, or an EXO error. */
long extent_derive(struct process *process, uint16_t number, uint32_t sel, unsigned rights);
/* A child gets those of its parent's extents that `keep` has a bit for: capabilities, and its
 * part in each. lend: with all rights. */
long extents_fork(struct process *parent, struct process *child, bool lend,
                  const uint64_t keep[LX_EXTENTS / 64]);
/* Frames of those that the process, and it alone, may write. */
uint32_t extents_private(const struct process *process);
/* Takes so many of them by force, and tells it: how many it was. A process from which they cannot
 * be taken ends. extent_seize: an extent, from all that have it. */
uint32_t extents_take(struct process *process, uint32_t frames);
void extent_seize(uint16_t number);
/* Those that have the extent are told to empty it and give it back (lx_window.start.wanted): who
 * inherited it first. */
void extent_want(uint16_t number);
/* Whether the process may read (write) all frames of [first, last]. They need not be of one
 * extent: neighbours make one run. */
bool frames_allowed(const struct process *p, uint64_t first, uint64_t last, bool write);
/* An extent's first page, shared and written by processes, in a slot of theirs (LX_RING_VA): 0, or an
 * EXO error; the process is one of its holders then. ring_unbind takes it back. */
long ring_bind(struct process *process, uint32_t slot, uint16_t number);
void ring_unbind(struct process *process, uint32_t slot, uint16_t number);
void *frame_data(uint32_t frame); /* of process memory or of a file's page */
/* The process has ended, its env is to stay: its extents, and all data but the private block, go.
 * False: that cannot be done; what is left goes with the env. */
bool extents_leave(struct process *process);
bool data_leave(struct process *process);
/* Everything that a process had goes, when its env is gone or a husk (whose private block stays). */
void memory_end(struct process *process);
extern struct lx_shared *lx_shared; /* the page, ours to write */
/* Of the pages of files, but no file's: the library's image, LX_LIB_PAGES; lx_shared before it. */
extern uint64_t library_frame;
extern uint64_t files_first, files_count_frames;

/* An env of ours, for capabilities: nothing runs in it. 0 or an EXO error. */
long memory_env(uint32_t tables, uint32_t *sel);
void cap_end(uint64_t ref); /* revokes and deletes it, in as many steps as it takes */

call_function op_extent, op_give, op_give_all, op_copy, op_data, op_map, op_unmap, op_pages,
    op_share, op_seen;
#endif
