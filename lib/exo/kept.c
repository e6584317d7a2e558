/* SPDX-License-Identifier: MIT
 *
 * A ring of bytes and its readers' places: see kept.h. */
#include "kept.h"

static const char question[] = "\033[6n"; /* where is the cursor: ECMA-48 8.3.35 */
#define QUESTION (sizeof(question) - 1)
_Static_assert(QUESTION < EXO_KEPT_LEAST, "a question and one character fit");

long exo_kept_make(struct exo_kept *kept, uint32_t size)
{
    *kept = (struct exo_kept){.ring = malloc(size), .size = size};
    return kept->ring ? 0 : -EXO_E_LIMIT;
}

void exo_kept_free(struct exo_kept *kept)
{
    free(kept->ring);
    *kept = (struct exo_kept){0};
}

void exo_kept_put(struct exo_kept *kept, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        kept->ring[kept->written++ & (kept->size - 1)] = text[i];
}

static uint64_t oldest(const struct exo_kept *kept)
{
    return kept->written > kept->size ? kept->written - kept->size : 0;
}

void exo_kept_begin(const struct exo_kept *kept, struct exo_kept_reader *reader)
{
    *reader = (struct exo_kept_reader){.at = oldest(kept), .replay = kept->written};
}

/* What looked like a question's beginning is none. */
static size_t flush(struct exo_kept_reader *reader, char *to)
{
    size_t n = reader->seen;
    memcpy(to, question, n);
    reader->seen = 0;
    return n;
}

size_t exo_kept_read(const struct exo_kept *kept, struct exo_kept_reader *reader, char *to,
                     size_t max)
{
    size_t n = 0;
    if (reader->at < oldest(kept)) reader->at = oldest(kept);
    while (reader->at < kept->written && n + QUESTION < max) {
        char c = kept->ring[reader->at & (kept->size - 1)];
        bool old = reader->at++ < reader->replay;
        if (!old || c != question[reader->seen]) {
            n += flush(reader, to + n);
            if (old && c == question[0])
                reader->seen = 1;
            else
                to[n++] = c;
        } else if (++reader->seen == QUESTION) {
            reader->seen = 0;
        }
    }
    if (reader->at == kept->written && n + QUESTION <= max) n += flush(reader, to + n);
    return n;
}
