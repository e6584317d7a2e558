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
    uint64_t n = 0;
    if (wanted > LX_NEAR) wanted = LX_NEAR;
    for (unsigned left = 2 * LX_NEAR; left && n < wanted && entry; left--) {
        const struct inode *inode = entry->inode;
        struct lx_near *near = &window->near[n];
        bool plain = inode_is(inode, S_IFREG) || (inode_is(inode, S_IFDIR) && !inode->mounted);
        if (plain && entry->length < LX_NEAR_NAME) {
            for (uint32_t i = 0; i <= entry->length / 8; i++)
                near->name[i] = entry->name[i];
            near->length = entry->length;
            stat_fill(&near->stat, inode);
            n++;
        }
        entry = entry->previous;
    }
    window->nears = n;
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
