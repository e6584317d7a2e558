/* SPDX-License-Identifier: MIT
 *
 * Pages of files: the first half of the block (memory.h). Which are free, and which were freed but
 * are kept aside: a frame that a process still has bound is not given to another file. The
 * kernel's table of frames tells (only our own binding is left), and extents that have the page. */
#include "memory.h"
#include "../../../../lib/exo/exo.h"

#define LOOK_FEW 2 /* pages kept aside that are looked at for each one that is taken ... */
#define LOOK_MANY 1024 /* ... or when none is free */

static uint32_t page_stack[FILE_PAGES_MAX], pages_free,
    pages_kept; /* free ones; kept aside at the end */
static uint16_t page_runs[FILE_PAGES_MAX]; /* extents of LX_FOR_FILE that have the page */

void pages_init(void)
{
    for (uint64_t i = files_first + files_count_frames; i-- > files_first;)
        if (i < library_frame - 1 || i >= library_frame + LX_LIB_PAGES)
            page_stack[pages_free++] = (uint32_t)i;
}

void runs_count(uint32_t first, uint32_t count, int more)
{
    for (uint32_t i = first - (uint32_t)files_first; count--; i++)
        page_runs[i] = (uint16_t)(page_runs[i] + more);
}

/* Whether nobody but us has the frame bound, or can bind it to write (without the kernel's
 * table we cannot know the first). */
static bool page_quiet(uint32_t frame)
{
    if (page_runs[frame - files_first]) return false;
    return !exo.words || EXO_FW_BINDINGS(exo.words[frame]) == 1;
}

/* Looks at n of those that were kept aside, where it stopped the last time: those that are quiet
 * come back. */
static void pages_look(uint32_t n)
{
    static uint32_t next;
    for (; n && pages_kept; n--) {
        if (next >= pages_kept) next = 0;
        uint32_t *at = &page_stack[FILE_PAGES_MAX - 1 - next], frame = *at;
        if (!page_quiet(frame)) {
            next++;
            continue;
        }
        *at = page_stack[FILE_PAGES_MAX - pages_kept--];
        page_stack[pages_free++] = frame;
    }
}

uint32_t page_take(void)
{
    if (pages_kept) pages_look(pages_free ? LOOK_FEW : LOOK_MANY);
    return pages_free ? page_stack[--pages_free] : 0;
}

uint32_t page_new(void)
{
    uint32_t frame = page_take();
    if (frame) memset(frame_data(frame), 0, EXO_PAGE);
    return frame;
}

void page_free(uint32_t frame)
{
    if (page_runs[frame - files_first]) runs_cut(frame);
    if (page_quiet(frame))
        page_stack[pages_free++] = frame;
    else
        page_stack[FILE_PAGES_MAX - ++pages_kept] = frame;
}

void page_count(uint64_t *all, uint64_t *unused)
{
    *all = files_count_frames - LX_LIB_PAGES - 1;
    *unused = pages_free + pages_kept;
}
