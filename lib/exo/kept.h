/* SPDX-License-Identifier: MIT
 *
 * The last bytes that somebody wrote to a terminal, kept to be shown later: to whoever
 * looks, from the oldest that is still there and then on as more comes. Owner of both
 * structures: one thread. */
#ifndef EXO_KEPT_H
#define EXO_KEPT_H
#include "exo.h"

struct exo_kept {
    char *ring;
    uint32_t size; /* a power of two */
    uint64_t written; /* bytes ever */
};
/* A reader's place. Bytes before `replay` are old: questions to the terminal among them
 * are left out, since their answers would come as keys. */
struct exo_kept_reader {
    uint64_t at, replay;
    unsigned seen; /* characters of a question that may have begun */
};

/* size: a power of two, up to 1 MiB. -EXO_E_LIMIT: no memory. */
long exo_kept_make(struct exo_kept *kept, uint32_t size);
void exo_kept_free(struct exo_kept *kept);
void exo_kept_put(struct exo_kept *kept, const char *text, size_t n);
/* A reader that begins with the oldest byte that is kept. */
void exo_kept_begin(const struct exo_kept *kept, struct exo_kept_reader *reader);
/* Up to max bytes (at least EXO_KEPT_LEAST), 0: nothing new. A reader that was
 * overtaken goes on with the oldest byte. */
size_t exo_kept_read(const struct exo_kept *kept, struct exo_kept_reader *reader, char *to,
                     size_t max);
#define EXO_KEPT_LEAST 8
#endif
