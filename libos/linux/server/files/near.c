/* SPDX-License-Identifier: MIT
 *
 * See near.h. The window is only stored to; an entry that is no plain one, or has a longer name, is
 * left out. */
#include "near.h"
#include "../process/memory.h"
#include "../../../../lib/exo/exo.h"

/* From `entry` on, in the order of getdents. */
static void near_put(struct lx_window *window, const struct entry *entry, uint64_t wanted)
{
    struct lx_near *near = window->near, *end = near + EXO_MIN(wanted, (uint64_t)LX_NEAR);
    for (unsigned left = 2 * LX_NEAR; entry && near < end && left--; entry = entry->previous) {
        const struct inode *inode = entry->inode;
        uint32_t type = inode->mode & S_IFMT, length = entry->length;
        if (inode->mounted || (type != S_IFREG && type != S_IFDIR) || length >= LX_NEAR_NAME)
            continue;
        near->name[0] = entry->name[0];
        for (uint32_t i = 1; i <= length / 8; i++)
            near->name[i] = entry->name[i];
        near->length = length;
        stat_fill(&near++->stat, inode);
    }
    window->nears = (uint64_t)(near - window->near);
    window->near_changes = lx_shared->changes;
}

void near_opened(struct thread *thread, const struct walk *walk)
{
    const struct inode *directory = walk->inode;
    if (!walk->counted || walk->magic || directory->fs != &root_fs) return;
    stat_fill(&thread->window->near[0].stat, directory);
    thread->window->nears = 1;
    thread->window->near_changes = lx_shared->changes;
}

void near_list(struct thread *thread, const struct entry *first, uint64_t wanted, bool all)
{
    near_put(thread->window, first, wanted);
    thread->window->near_ended = all;
}

void near_walked(struct thread *thread, const struct walk *walk, uint64_t wanted)
{
    const struct entry *entry = walk->entry;
    if (walk->counted && entry && entry->parent->fs == &root_fs)
        near_put(thread->window, entry->previous, wanted);
}
