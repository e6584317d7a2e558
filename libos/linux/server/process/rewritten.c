/* SPDX-License-Identifier: MIT
 *
 * See rewritten.h; site.h decides what is written. Who reports a site is not believed: the bytes of the
 * file say whether a `syscall` is there, and where the instruction before it begins; jumps are
 * written into the page of the site alone, which is executed only by who executes the file; all
 * stubs lead to the library's entry (LX_LIB_CALL). What is written into a page while it is
 * executed, too, is so little at a time that a thread of any process finds either the old
 * instruction or the new one: all run on one CPU, and none is stopped inside those bytes. */
#include "rewritten.h"
#include "../files/data.h"
#include "../files/files.h"
#include "memory.h"
#include "site.h"
#include <linux/elf.h>

#define FILES 64
#define TEXT_PAGES 64 /* of one file that are copied */
#define TEXT_PAGES_ALL 1024
#define TEXT_SITES (EXO_PAGE / STUB_SIZE - 1)
#define BASE (1ul << 32) /* where the file's first byte is taken to lie: distances count */

struct rewritten {
    struct inode *inode; /* NULL: free */
    uint32_t stubs; /* frame: a pointer to the library's entry, then stub i of site i - 1 */
    uint64_t stubs_va; /* of the page of stubs */
    uint32_t sites, stays, pages; /* numbers */
    uint32_t site[TEXT_SITES]; /* offsets in the file, of those rewritten */
    uint32_t stay[TEXT_SITES]; /* of those that cannot be */
    struct lx_seen page[TEXT_PAGES]; /* the copies */
    uint64_t copied[LX_SEEN_PAGES / 64]; /* which these are, a bit each */
};
static struct rewritten files[FILES];
static uint32_t pages_all; /* stubs, too */

static struct rewritten *rewritten_of(const struct file *file)
{
    return file->ops == &data_ops ? file->inode->data.rewritten : NULL;
}

static uint32_t page_find(const struct rewritten *text, uint64_t page)
{
    for (uint32_t i = 0; i < text->pages; i++)
        if (text->page[i].page == page) return text->page[i].frame;
    return 0;
}

uint32_t rewritten_frame(const struct file *file, uint64_t page, uint32_t frame)
{
    const struct rewritten *text = rewritten_of(file);
    if (!text || page >= LX_SEEN_PAGES || !(text->copied[page / 64] >> page % 64 & 1)) return frame;
    return page_find(text, page);
}

const uint64_t *rewritten_copied(const struct file *file)
{
    const struct rewritten *text = rewritten_of(file);
    return text ? text->copied : NULL;
}

uint32_t rewritten_stubs(const struct file *file)
{
    const struct rewritten *text = rewritten_of(file);
    if (text) return text->stubs;
    if (file->ops != &data_ops || !file->inode->data.executed) return 0;
    for (text = files; text < files + FILES; text++) /* who has its copies needs them still */
        if (text->inode == file->inode) return text->stubs;
    return 0;
}

void rewritten_drop(struct inode *inode)
{
    inode->data.rewritten = NULL;
    inode->data.stored = true;
}

static void rewritten_free(struct rewritten *text)
{
    if (text->inode->data.rewritten == text) text->inode->data.rewritten = NULL;
    for (uint32_t i = 0; i < text->pages; i++)
        page_free(text->page[i].frame);
    page_free(text->stubs);
    pages_all -= text->pages + 1;
    *text = (struct rewritten){0};
}

void rewritten_end(struct inode *inode)
{
    for (struct rewritten *text = files; text < files + FILES; text++)
        if (text->inode == inode) rewritten_free(text);
}

/* Whether a process may have pages of it, or note where they are. */
static bool executed(const struct inode *inode)
{
    for (unsigned i = 0; i < LX_PROCESSES; i++) {
        const struct process_memory *m = processes[i].memory;
        for (uint32_t h = 0; m && h < m->handles; h++)
            if (m->handle[h] && m->handle[h]->inode == inode) return true;
    }
    return false;
}

/* A free one, if need be of a file that nobody executes; NULL: none. */
static struct rewritten *rewritten_new(void)
{
    for (struct rewritten *text = files; text < files + FILES; text++)
        if (!text->inode) return text;
    for (struct rewritten *text = files; text < files + FILES; text++)
        if (!executed(text->inode)) {
            rewritten_free(text);
            return text;
        }
    return NULL;
}

/* Where stubs lie: on the page behind the last segment, as the library finds it (exec.c), when the
 * file's first byte lies at BASE under its text. 0: it is no such program. */
static uint64_t stubs_find(struct inode *inode)
{
    size_t n;
    uint64_t end = 0, base = 0;
    const uint8_t *head = data_at(inode, 0, &n);
    Elf64_Ehdr h;
    if (n < sizeof(h)) return 0;
    memcpy(&h, head, sizeof(h));
    if (h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > n ||
        h.e_phnum > (n - h.e_phoff) / sizeof(Elf64_Phdr))
        return 0;
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p;
        memcpy(&p, head + h.e_phoff + i * sizeof(p), sizeof(p));
        if (p.p_type != PT_LOAD || !p.p_memsz) continue;
        if (p.p_flags & PF_X && p.p_filesz && !base)
            base = (p.p_vaddr & -EXO_PAGE) - (p.p_offset & -EXO_PAGE) + 1;
        end = (p.p_vaddr + p.p_memsz + EXO_PAGE - 1) & -EXO_PAGE;
    }
    uint64_t distance = end - (base - 1);
    return base && distance < 1ul << 30 ? BASE + distance : 0;
}

/* The inode's, made where it has none; NULL: no room, or no program. */
static struct rewritten *rewritten_get(struct inode *inode)
{
    struct rewritten *text = inode->data.rewritten;
    if (text) return text;
    uint64_t stubs_va = stubs_find(inode);
    text = stubs_va && pages_all < TEXT_PAGES_ALL ? rewritten_new() : NULL;
    uint32_t frame = text ? page_new() : 0;
    if (!frame) return NULL;
    *(uint64_t *)page_data(frame) = LX_LIB_CALL;
    text->inode = inode;
    text->stubs = frame;
    text->stubs_va = stubs_va;
    pages_all++;
    inode->data.executed = true;
    return inode->data.rewritten = text;
}

/* The bytes of the text, as it is by now, around a site: how many, those from *from on. */
static unsigned bytes_around(struct file *file, uint64_t site, uint8_t bytes[2 * SITE_REACH],
                             uint64_t *from)
{
    uint64_t end = EXO_MIN(site + SITE_REACH, file->inode->size);
    *from = site > SITE_REACH ? site - SITE_REACH : 0;
    unsigned done = 0;
    for (uint64_t at = *from; at < end;) {
        size_t n = EXO_MIN(end - at, EXO_PAGE - at % EXO_PAGE), there;
        uint32_t frame = rewritten_frame(file, at / EXO_PAGE, 0);
        const uint8_t *data =
            frame ? (uint8_t *)page_data(frame) + at % EXO_PAGE : data_at(file->inode, at, &there);
        if (!frame) n = EXO_MIN(n, there);
        if (!data || !n) break;
        memcpy(bytes + done, data, n);
        done += (unsigned)n;
        at += n;
    }
    return done;
}

/* The copy of a page, made when there is none: its bytes, or NULL. */
static uint8_t *page_copy(struct rewritten *text, struct file *file, uint32_t page)
{
    uint32_t frame = page_find(text, page), own;
    if (frame) return page_data(frame);
    if (text->pages == TEXT_PAGES || file_pages(file, page, 1, &own, false) < 0 || !own)
        return NULL;
    if (pages_all == TEXT_PAGES_ALL || !(frame = page_take())) return NULL;
    pages_all++;
    text->page[text->pages++] = (struct lx_seen){page, frame};
    text->copied[page / 64] |= 1ul << page % 64;
    return memcpy(page_data(frame), page_data(own), EXO_PAGE);
}

static void write_bytes(uint8_t *to, const uint8_t *bytes, unsigned n)
{
    uint64_t whole = *(any_word *)to;
    if (n > sizeof(whole)) {
        memcpy(to, bytes, n);
        return;
    }
    memcpy(&whole, bytes, n);
    *(volatile any_word *)to = whole;
}

static bool site_rewrite(struct rewritten *text, struct file *file, uint64_t site)
{
    uint8_t bytes[2 * SITE_REACH], *page;
    uint64_t from, first = BASE + site / EXO_PAGE * EXO_PAGE;
    struct site_plan plan;
    if (text->sites == TEXT_SITES) return false;
    unsigned n = bytes_around(file, site, bytes, &from);
    const struct site_text around = {bytes, BASE + from, n};
    uint64_t stub = (text->sites + 1ul) * STUB_SIZE;
    if (!site_plan(&plan, &around, BASE + site, text->stubs_va + stub, text->stubs_va))
        return false;
    for (unsigned i = 0; i < plan.writes; i++) /* eight bytes are stored */
        if (plan.write[i].va < first || plan.write[i].va + 16 > first + EXO_PAGE) return false;
    if (!(page = page_copy(text, file, (uint32_t)(site / EXO_PAGE)))) return false;
    memcpy((uint8_t *)page_data(text->stubs) + stub, plan.stub, STUB_SIZE);
    for (unsigned i = 0; i < plan.writes; i++)
        write_bytes(page + (plan.write[i].va - first), plan.write[i].bytes, plan.write[i].length);
    text->site[text->sites++] = (uint32_t)site;
    return true;
}

static bool listed_in(const uint32_t *list, uint32_t n, uint64_t site)
{
    while (n && list[n - 1] != site)
        n--;
    return n != 0;
}

long op_site(struct thread *thread, const uint64_t a[6])
{
    const struct process_memory *m = thread->process->memory;
    uint64_t site = a[1];
    if (a[0] >= LX_HANDLES || !m->handle[a[0]]) return -EBADF;
    struct file *file = m->handle[a[0]];
    struct inode *inode = file->inode;
    if (file->ops != &data_ops || inode->data.stored || site >= inode->size ||
        site / EXO_PAGE >= LX_SEEN_PAGES)
        return -EINVAL;
    struct rewritten *text = rewritten_get(inode);
    if (!text) return -ENOMEM;
    if (listed_in(text->site, text->sites, site)) return 0;
    if (text->stays == TEXT_SITES || listed_in(text->stay, text->stays, site)) return -EINVAL;
    if (site_rewrite(text, file, site)) return 0;
    text->stay[text->stays++] = (uint32_t)site;
    return -EINVAL;
}
