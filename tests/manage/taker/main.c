/* SPDX-License-Identifier: MIT
 *
 * Takes by force what another program has on loan (root/loan.c): asks for all of it with no time to
 * give it back, once much of it is in use. What comes must be ours alone, and goes back. */
#include "../../../lib/exo/exo.h"
#include "../../../lib/exo/tables.h"

#define VA 0x0000130000000000ul
#define ENOUGH 8192 /* frames of it that somebody beside its owner has bound */
#define USE_US 60000000 /* until then, at most */
#define HOLD_US 2000000
#define ROW 512 /* frames that are bound at once */

static void check(const char *what, bool good)
{
    exo_printf("%s loan: %s\n", good ? "PASS" : "FAIL", what);
}

static void sleep_us(uint64_t us)
{
    uint64_t end = exo_in_us(us);
    while (exo_tsc() < end)
        exo_event_wait(1, end);
}

static uint64_t in_use(uint32_t first, uint32_t frames)
{
    uint64_t n = 0;
    for (uint32_t f = first; f < first + frames; f++)
        n += EXO_FW_BINDINGS(exo.words[f]) > 1;
    return n;
}

/* The first program's that has memory on loan: enough of it is in use, and not more than before. */
static bool wait_used(uint32_t *frames)
{
    uint64_t end = exo_in_us(USE_US), before = 0;
    const struct exo_names *names = exo_names_map();
    for (; names && exo_tsc() < end; sleep_us(500000))
        for (uint32_t i = 0; i < names->count && i < EXO_NAMES; i++) {
            *frames = names->program[i].loan_frames;
            if (!*frames) continue;
            uint64_t n = in_use(names->program[i].loan, *frames);
            if (n >= ENOUGH && n == before) return true;
            before = n;
            break;
        }
    return false;
}

static long service(uint64_t word[4])
{
    long r = exo_call(exo.start.sel_service, word);
    return r < 0 ? r : (long)word[0];
}

/* All frames of a row, written with their numbers, or looked at whether they still are. */
static bool rows(uint32_t sel, uint64_t first, uint64_t frames, bool write)
{
    bool good = true;
    for (uint64_t f = first; f < first + frames && good; f += ROW) {
        good = exo_bind(&exo.pool, VA, ROW, sel, f, EXO_R | EXO_W) == 0;
        for (uint64_t i = 0; i < ROW * EXO_PAGE / 8 && good; i++) {
            volatile uint64_t *word = (volatile uint64_t *)VA + i;
            if (write) *word = f + i;
            good = *word == f + i;
        }
        good = exo_unbind(&exo.pool, VA, ROW) == 0 && good;
    }
    return good;
}

int main(struct exo_startup *start)
{
    (void)start;
    uint32_t frames = 0;
    bool used = wait_used(&frames);
    long sel = exo_sel_alloc(), r;
    uint64_t first, n, word[4];
    do {
        memcpy(word, (uint64_t[]){EXO_SERVICE_BORROW, frames, (uint64_t)sel, 0}, sizeof(word));
        r = service(word);
    } while (r == -EXO_E_AGAIN && used);
    first = word[1];
    n = word[2];
    bool written = used && r == 0 && rows((uint32_t)sel, first, n, true);
    if (written) sleep_us(HOLD_US);
    bool ours = written && rows((uint32_t)sel, first, n, false);
    memcpy(word, (uint64_t[]){EXO_SERVICE_RETURN, first, 0, 0}, sizeof(word));
    bool back = written && service(word) == 0;
    check("it was in use", used);
    check("all of it is taken at once", r == 0 && n == frames);
    check("nobody else writes it", ours);
    check("it is given back", back && exo_cap_info((uint64_t)sel) <= 0);
    return 0;
}
