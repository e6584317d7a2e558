/* SPDX-License-Identifier: MIT
 *
 * Names and the table of entries, inline: what each step of a walk does. Names are taken
 * and compared eight bytes at a time. */
#ifndef LX_ENTRY_H
#define LX_ENTRY_H
#include "files/inode.h"

#define LX_BUCKETS 16384u /* of the table of entries: a power of two */
#define BYTES_ONE 0x0101010101010101ul
#define BYTES_HIGH 0x8080808080808080ul
#define BYTES_SLASH 0x2f2f2f2f2f2f2f2ful

/* Random from the start on, so that nobody can choose names of one bucket (files_start). */
extern uint64_t names_key[2];

extern struct entry *entry_buckets[LX_BUCKETS];
/* Counts what can make a name lead elsewhere: removals, moves, mounts; and those that concern
 * directories. */
extern uint64_t names_changed, directories_changed;

static inline uint64_t word_at(const char *at)
{
    uint64_t word;
    __builtin_memcpy(&word, at, 8);
    return word;
}

/* Both halves of a product of what nobody knows. */
static inline uint64_t hash_mix(uint64_t hash, uint64_t word)
{
    unsigned __int128 product = (unsigned __int128)(hash ^ word) * names_key[1];
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Takes the name at the start of `path`, up to a slash or the end. 8 bytes behind its end
 * can be read. */
static inline void name_take(struct name *name, const char *path)
{
    uint64_t hash = names_key[0];
    const char *at = path;
    for (;; at += 8) {
        uint64_t word = word_at(at), slash = word ^ BYTES_SLASH;
        /* The lowest bit is the high one of the first byte that is zero or a slash. */
        uint64_t ends =
            (((word - BYTES_ONE) & ~word) | ((slash - BYTES_ONE) & ~slash)) & BYTES_HIGH;
        if (ends) {
            unsigned bits = (unsigned)__builtin_ctzl(ends) & 56;
            name->tail = word & ((1ul << bits) - 1);
            name->length = (uint32_t)(at - path) + bits / 8;
            name->text = path;
            name->hash = (uint32_t)hash_mix(hash, name->tail);
            return;
        }
        hash = hash_mix(hash, word);
    }
}

static inline struct entry **entry_bucket(const struct inode *directory, uint32_t hash)
{
    return &entry_buckets[(hash ^ (uint32_t)directory->number) % LX_BUCKETS];
}

static inline struct entry *entry_look(const struct inode *directory, const struct name *name)
{
    struct entry *entry = *entry_bucket(directory, name->hash);
    for (; entry; entry = entry->hash_next) {
        if (entry->hash != name->hash || entry->parent != directory ||
            entry->length != name->length)
            continue;
        uint32_t i = 0, words = name->length / 8;
        while (i < words && entry->name[i] == word_at(name->text + 8ul * i))
            i++;
        if (i == words && entry->name[i] == name->tail) return entry;
    }
    return NULL;
}
#endif
