/* SPDX-License-Identifier: MIT
 *
 * The line discipline of a terminal: what becomes of typed bytes (editing, signals, echo)
 * and of written ones (OPOST), as termios(3) says and as Linux' N_TTY does it where that
 * leaves a choice. Owner: the server; no locks, it is one thread. Invariants: read <= line
 * <= head <= read + LX_TTY_RING; bits in `ends` only for read..head - 1; a line that ends
 * with EOF has the byte LINE_EOF there, which is not read.
 *
 * Echo that finds no room is lost; a program's output waits for it. */
#include "tty.h"
#include "../../signals.h"
#include "../../../../lib/exo/exo.h"

#define RING_MASK (LX_TTY_RING - 1)
#define LINE_EOF 0 /* stored in place of the EOF character; c_cc of 0 is none at all */
#define TAB_STOP 8u

#define I(flags) (tty->settings.c_iflag & (flags))
#define O(flags) (tty->settings.c_oflag & (flags))
#define L(flags) (tty->settings.c_lflag & (flags))
#define CC(index) (tty->settings.c_cc[index])

static bool is_control(uint8_t c) { return c < 0x20 || c == 0x7f; }
/* Letters of Latin-1. */
static bool is_lower(uint8_t c) { return (c >= 'a' && c <= 'z') || (c >= 0xdf && c != 0xf7); }
static bool is_upper(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 0xc0 && c <= 0xde && c != 0xd7);
}
/* What WERASE takes for a word. */
static bool is_word(uint8_t c)
{
    return is_lower(c) || is_upper(c) || (c >= '0' && c <= '9') || c == '_';
}
/* A byte of UTF-8 that is not a character's first. */
static bool is_continuation(const struct tty *tty, uint8_t c)
{
    return I(IUTF8) && (c & 0xc0) == 0x80;
}

static bool canonical(const struct tty *tty) { return L(ICANON); }
/* Whether c is this special character; 0 in c_cc: there is none. */
static bool special(const struct tty *tty, uint8_t c, unsigned index)
{
    return c && c == CC(index);
}

static bool end_at(const struct tty *tty, uint32_t at)
{
    return tty->ends[(at & RING_MASK) / 64] >> (at & 63) & 1;
}
static void end_set(struct tty *tty, uint32_t at, bool end)
{
    uint64_t bit = 1ul << (at & 63), *word = &tty->ends[(at & RING_MASK) / 64];
    *word = end ? *word | bit : *word & ~bit;
}
static uint8_t in_at(const struct tty *tty, uint32_t at) { return tty->in[at & RING_MASK]; }

/* ---- output ---- */

static size_t out_room(const struct tty *tty) { return LX_TTY_RING - tty_out_count(tty); }

static void out_put(struct tty *tty, uint8_t c)
{
    if (out_room(tty)) tty->out[tty->out_head++ & RING_MASK] = c;
}

static void out_newline(struct tty *tty)
{
    if (O(ONLRET | ONLCR)) tty->column = 0;
    if (O(ONLCR)) out_put(tty, '\r');
    tty->line_column = tty->column;
    out_put(tty, '\n');
}

static void out_return(struct tty *tty)
{
    if (O(ONOCR) && tty->column == 0) return;
    if (!O(OCRNL) || O(ONLRET)) tty->line_column = tty->column = 0;
    out_put(tty, O(OCRNL) ? '\n' : '\r');
}

static void out_tab(struct tty *tty)
{
    unsigned spaces = TAB_STOP - tty->column % TAB_STOP;
    tty->column += spaces;
    if (O(TABDLY) == XTABS)
        while (spaces--)
            out_put(tty, ' ');
    else
        out_put(tty, '\t');
}

/* One byte with what OPOST does to it: false, and nothing done, when there may be no room. */
static bool out_char(struct tty *tty, uint8_t c)
{
    if (out_room(tty) < TAB_STOP) return false;
    if (!O(OPOST)) {
        out_put(tty, c);
    } else if (c == '\n') {
        out_newline(tty);
    } else if (c == '\r') {
        out_return(tty);
    } else if (c == '\t') {
        out_tab(tty);
    } else {
        if (c == '\b')
            tty->column -= tty->column > 0;
        else if (!is_control(c) && !is_continuation(tty, c))
            tty->column++;
        out_put(tty, O(OLCUC) && is_lower(c) ? c - 'a' + 'A' : c);
    }
    return true;
}

static void out_tell(struct tty *tty)
{
    if (tty->output && !tty->stopped && tty_out_count(tty)) tty->output(tty);
}

size_t tty_output(struct tty *tty, const void *data, size_t n)
{
    const uint8_t *bytes = data;
    size_t done = 0;
    if (tty->stopped) return 0;
    while (done < n && out_char(tty, bytes[done]))
        done++;
    out_tell(tty);
    return done;
}

size_t tty_take(struct tty *tty, void *data, size_t n)
{
    if (tty->stopped) return 0;
    uint8_t *bytes = data;
    size_t done = EXO_MIN(n, tty_out_count(tty));
    for (size_t left = done; left;) {
        uint32_t at = tty->out_read & RING_MASK;
        size_t piece = EXO_MIN(left, (size_t)(LX_TTY_RING - at));
        memcpy(bytes + done - left, tty->out + at, piece);
        tty->out_read += (uint32_t)piece;
        left -= piece;
    }
    if (done && tty_out_count(tty) < LX_TTY_RING / 2) wake(&tty->wait);
    return done;
}

/* ---- echo ---- */

/* 0xff has been an escape in Linux' echo, and goes past OPOST: so it does here. */
static void echo_raw(struct tty *tty, uint8_t c)
{
    if (c != 0xff) {
        (void)out_char(tty, c);
        return;
    }
    out_put(tty, c);
    tty->column++;
}

static void echo_text(struct tty *tty, const char *text)
{
    for (; *text; text++)
        echo_raw(tty, (uint8_t)*text);
}

static void echo_char(struct tty *tty, uint8_t c)
{
    if (L(ECHOCTL) && is_control(c) && c != '\t') {
        out_put(tty, '^');
        out_put(tty, c ^ 0x40);
        tty->column += 2;
    } else {
        echo_raw(tty, c);
    }
}

/* ECHOPRT: the erased characters stand between \ and /. */
static void echo_erasing_end(struct tty *tty)
{
    if (tty->erasing) echo_raw(tty, '/');
    tty->erasing = false;
}

/* All echo so far is on the screen: a signal does not throw it away any more. */
static void echo_shown(struct tty *tty)
{
    tty->shown_column = tty->column;
    tty->shown_line_column = tty->line_column;
}

/* Before a character is echoed: where the edited line begins on the screen. */
static void echo_begin(struct tty *tty)
{
    if (tty->line == tty->head) tty->line_column = tty->column;
}

/* Goes back over a tab: as far as it went, which what stands before it in the line says. */
static void echo_erase_tab(struct tty *tty)
{
    unsigned columns = 0;
    bool after_tab = false;
    for (uint32_t at = tty->head; at != tty->line;) {
        uint8_t c = in_at(tty, --at);
        if (c == '\t') {
            after_tab = true;
            break;
        }
        if (is_control(c))
            columns += L(ECHOCTL) ? 2 : 0;
        else
            columns += !is_continuation(tty, c);
    }
    if (!after_tab) columns += tty->line_column;
    for (unsigned back = TAB_STOP - columns % TAB_STOP; back; back--) {
        out_put(tty, '\b');
        tty->column -= tty->column > 0;
    }
}

/* c, the first byte of a character of n, was taken off the line; how the screen shows it. */
static void echo_erased(struct tty *tty, uint8_t c, uint32_t n, unsigned kind)
{
    if (L(ECHOPRT)) {
        if (!tty->erasing) echo_raw(tty, '\\');
        tty->erasing = true;
        echo_char(tty, c);
        for (uint32_t i = 1; i < n; i++) {
            echo_raw(tty, in_at(tty, tty->head + i));
            tty->column -= tty->column > 0;
        }
    } else if (kind == VERASE && !L(ECHOE)) {
        echo_char(tty, CC(VERASE));
    } else if (c == '\t') {
        echo_erase_tab(tty);
    } else {
        if (is_control(c) && L(ECHOCTL)) echo_text(tty, "\b \b");
        if (!is_control(c) || L(ECHOCTL)) echo_text(tty, "\b \b");
    }
}

/* ---- editing ---- */

static void in_put(struct tty *tty, uint8_t c)
{
    end_set(tty, tty->head, false);
    tty->in[tty->head++ & RING_MASK] = c;
}

/* KILL where the screen cannot show it: the line goes, and the screen goes on. */
static void edit_kill(struct tty *tty)
{
    tty->head = tty->line;
    if (!L(ECHO)) return;
    echo_erasing_end(tty);
    echo_char(tty, CC(VKILL));
    if (L(ECHOK)) echo_raw(tty, '\n');
}

/* VERASE: a character, VWERASE: a word, VKILL: the line. */
static void edit_erase(struct tty *tty, unsigned kind)
{
    bool word = false;
    if (tty->head == tty->line) return;
    if (kind == VKILL && L(ECHO | ECHOK | ECHOKE | ECHOE) != (ECHO | ECHOK | ECHOKE | ECHOE)) {
        edit_kill(tty);
        return;
    }
    while (tty->head != tty->line) {
        uint32_t at = tty->head;
        uint8_t c;
        do
            c = in_at(tty, --at);
        while (is_continuation(tty, c) && at != tty->line);
        if (is_continuation(tty, c)) break; /* its beginning is not there */
        if (kind == VWERASE) {
            if (is_word(c))
                word = true;
            else if (word)
                break;
        }
        uint32_t n = tty->head - at;
        tty->head = at;
        if (L(ECHO)) echo_erased(tty, c, n, kind);
        if (kind == VERASE) break;
    }
    if (tty->head == tty->line && L(ECHO)) echo_erasing_end(tty);
}

static void edit_reprint(struct tty *tty)
{
    echo_erasing_end(tty);
    echo_char(tty, CC(VREPRINT));
    echo_raw(tty, '\n');
    for (uint32_t at = tty->line; at != tty->head; at++)
        echo_char(tty, in_at(tty, at));
}

static void line_end(struct tty *tty, uint8_t c)
{
    in_put(tty, c);
    end_set(tty, tty->head - 1, true);
    tty->line = tty->head;
}

/* new_line: c was typed as something else, and is echoed as a new line, not as ^J. */
static void in_plain(struct tty *tty, uint8_t c, bool new_line)
{
    if (tty->stopped && I(IXON) && I(IXANY)) tty_start(tty);
    if (L(ECHO)) {
        echo_erasing_end(tty);
        if (!new_line) echo_begin(tty);
        if (new_line)
            echo_raw(tty, c);
        else
            echo_char(tty, c);
    }
    if (c == 0xff && I(PARMRK)) in_put(tty, c);
    in_put(tty, c);
}

/* What ICANON does with its special characters: true when c was one. */
static bool in_canonical(struct tty *tty, uint8_t c)
{
    bool extended = L(IEXTEN);
    if (special(tty, c, VERASE)) {
        edit_erase(tty, VERASE);
    } else if (special(tty, c, VKILL)) {
        edit_erase(tty, VKILL);
    } else if (extended && special(tty, c, VWERASE)) {
        edit_erase(tty, VWERASE);
    } else if (extended && special(tty, c, VLNEXT)) {
        tty->literal = true;
        if (L(ECHO)) echo_erasing_end(tty);
        if (L(ECHO) && L(ECHOCTL)) echo_text(tty, "^\b");
    } else if (extended && L(ECHO) && special(tty, c, VREPRINT)) {
        edit_reprint(tty);
    } else if (c == '\n') {
        if (L(ECHO | ECHONL)) echo_raw(tty, c);
        line_end(tty, c);
    } else if (special(tty, c, VEOF)) {
        line_end(tty, LINE_EOF);
    } else if (special(tty, c, VEOL) || (extended && special(tty, c, VEOL2))) {
        if (L(ECHO)) {
            echo_begin(tty);
            echo_char(tty, c);
        }
        if (c == 0xff && I(PARMRK)) in_put(tty, c);
        line_end(tty, c);
    } else {
        return false;
    }
    return true;
}

/* INTR, QUIT, SUSP: true when c was one. */
static bool in_signal(struct tty *tty, uint8_t c)
{
    int signal = special(tty, c, VINTR)   ? SIGINT
                 : special(tty, c, VQUIT) ? SIGQUIT
                 : special(tty, c, VSUSP) ? SIGTSTP
                                          : 0;
    if (!signal) return false;
    if (tty->foreground) signal_group(tty->foreground, signal);
    if (!L(NOFLSH)) {
        tty_flush(tty, true, true); /* with its echo, which nobody has seen */
        tty->column = tty->shown_column;
        tty->line_column = tty->shown_line_column;
    }
    if (I(IXON)) tty_start(tty);
    if (L(ECHO)) echo_char(tty, c);
    return true;
}

static uint8_t in_case(const struct tty *tty, uint8_t c)
{
    if (I(ISTRIP)) c &= 0x7f;
    return I(IUCLC) && L(IEXTEN) && is_upper(c) ? c - 'A' + 'a' : c;
}

static void in_char(struct tty *tty, uint8_t c)
{
    c = in_case(tty, c);
    if (tty->literal) {
        tty->literal = false;
        in_plain(tty, c, false);
        return;
    }
    if (I(IXON) && special(tty, c, VSTART)) {
        tty_start(tty);
        return;
    }
    if (I(IXON) && special(tty, c, VSTOP)) {
        tty_stop(tty);
        return;
    }
    if (L(ISIG) && in_signal(tty, c)) return;
    if (tty->stopped && I(IXON) && I(IXANY)) tty_start(tty);
    bool new_line = false;
    if (c == '\r') {
        if (I(IGNCR)) return;
        new_line = I(ICRNL);
        if (new_line) c = '\n';
    } else if (c == '\n' && I(INLCR)) {
        c = '\r';
    }
    if (canonical(tty) && in_canonical(tty, c)) return;
    in_plain(tty, c, new_line);
}

/* How many bytes can be taken now. A line that has no end yet always takes one more, in
 * place of its last: so its end can still be typed. */
static size_t in_room(struct tty *tty)
{
    int room = (int)(LX_TTY_RING - (tty->head - tty->read));
    if (I(PARMRK)) room = (room + 2) / 3;
    room--;
    if (room > 0) return (size_t)room;
    bool overflow = canonical(tty) && tty->line == tty->read;
    if (overflow && room < 0) tty->head--;
    return overflow;
}

size_t tty_input(struct tty *tty, const void *data, size_t n)
{
    const uint8_t *bytes = data;
    size_t done = 0;
    tty->throttled = false;
    if (!tty->stopped) echo_shown(tty);
    while (done < n) {
        size_t piece = EXO_MIN(n - done, in_room(tty));
        if (!piece) break;
        for (size_t i = 0; i < piece; i++)
            in_char(tty, bytes[done + i]);
        done += piece;
    }
    tty->throttled = done < n;
    out_tell(tty);
    if (tty_readable(tty, false)) wake(&tty->wait);
    return done;
}

/* ---- reading ---- */

bool tty_readable(const struct tty *tty, bool many)
{
    if (canonical(tty)) return tty->line != tty->read;
    uint32_t enough = many && !CC(VTIME) && CC(VMIN) ? CC(VMIN) : 1;
    return tty->head - tty->read >= enough;
}

size_t tty_in_count(const struct tty *tty)
{
    if (!canonical(tty)) return tty->head - tty->read;
    size_t n = 0;
    for (uint32_t at = tty->read; at != tty->line; at++)
        n += !(end_at(tty, at) && in_at(tty, at) == LINE_EOF);
    return n;
}

static void in_copy(struct tty *tty, struct iobuf *io, uint32_t n)
{
    while (n) {
        uint32_t at = tty->read & RING_MASK, piece = EXO_MIN(n, LX_TTY_RING - at);
        iobuf_put(io, tty->in + at, piece);
        tty->read += piece;
        n -= piece;
    }
}

/* Skips an end of file that is next. */
static bool read_end_of_file(struct tty *tty)
{
    if (tty->read == tty->line || !end_at(tty, tty->read)) return false;
    if (in_at(tty, tty->read) != LINE_EOF) return false;
    end_set(tty, tty->read++, false);
    return true;
}

static long read_line(struct tty *tty, struct iobuf *io)
{
    if (tty->read == tty->line) return -EAGAIN;
    uint32_t n = 0, most = (uint32_t)EXO_MIN(io->left, (size_t)(tty->line - tty->read));
    bool ended = false;
    while (n < most && !ended)
        ended = end_at(tty, tty->read + n++);
    bool file_end = ended && in_at(tty, tty->read + n - 1) == LINE_EOF;
    if (ended) end_set(tty, tty->read + n - 1, false);
    in_copy(tty, io, n - file_end);
    tty->read += file_end;
    /* What was asked for is exactly the line before an end of file: that is used up. */
    if (!ended && io->left == 0) (void)read_end_of_file(tty);
    return (long)(n - file_end);
}

long tty_read(struct tty *tty, struct iobuf *io)
{
    long n;
    if (canonical(tty)) {
        n = read_line(tty, io);
    } else {
        n = (long)EXO_MIN(io->left, (size_t)(tty->head - tty->read));
        in_copy(tty, io, (uint32_t)n);
        if (n == 0) n = -EAGAIN;
    }
    if (tty->throttled) {
        tty->throttled = false;
        if (tty->resume) tty->resume(tty);
    }
    return n;
}

/* ---- settings ---- */

void tty_init(struct tty *tty)
{
    static const struct termios2 sane = {
        .c_iflag = ICRNL | IXON,
        .c_oflag = OPOST | ONLCR,
        .c_cflag = B38400 | CS8 | CREAD,
        .c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
        .c_cc = {[VINTR] = 3,
                 [VQUIT] = 28,
                 [VERASE] = 127,
                 [VKILL] = 21,
                 [VEOF] = 4,
                 [VMIN] = 1,
                 [VSTART] = 17,
                 [VSTOP] = 19,
                 [VSUSP] = 26,
                 [VREPRINT] = 18,
                 [VDISCARD] = 15,
                 [VWERASE] = 23,
                 [VLNEXT] = 22},
        .c_ispeed = 38400,
        .c_ospeed = 38400,
    };
    memset(tty, 0, sizeof(*tty));
    tty->settings = sane;
}

/* Into or out of lines: what is there already becomes one line, or a stream. */
static void mode_change(struct tty *tty)
{
    memset(tty->ends, 0, sizeof(tty->ends));
    tty->line = tty->read;
    if (canonical(tty) && tty->head != tty->read) {
        end_set(tty, tty->head - 1, true);
        tty->line = tty->head;
    }
    tty->erasing = tty->literal = false;
}

void tty_settings(struct tty *tty, const struct termios2 *settings)
{
    struct termios2 old = tty->settings;
    tty->settings = *settings;
    tty->settings.c_line = 0;
    if ((old.c_lflag ^ settings->c_lflag) & ICANON) mode_change(tty);
    if (!I(IXON) && (old.c_iflag & IXON)) tty_start(tty);
    wake(&tty->wait);
}

void tty_flush(struct tty *tty, bool in, bool out)
{
    if (in) {
        tty->read = tty->line = tty->head = 0;
        tty->erasing = false;
        memset(tty->ends, 0, sizeof(tty->ends));
        if (tty->throttled) {
            tty->throttled = false;
            if (tty->resume) tty->resume(tty);
        }
    }
    if (out) tty->out_read = tty->out_head;
    wake(&tty->wait);
}

void tty_stop(struct tty *tty) { tty->stopped = true; }

void tty_start(struct tty *tty)
{
    if (!tty->stopped || tty->held) return;
    tty->stopped = false;
    echo_shown(tty);
    out_tell(tty);
    wake(&tty->wait);
}
