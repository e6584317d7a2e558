/* SPDX-License-Identifier: MIT
 *
 * Sessions: one a stream of a client. A request is a line; the reply is lines of a body,
 * each with a space before it, then "ok" or "error TEXT". docs/manage.md has the list. */
#include "vmd.h"

#define ANSWER_US 2000000 /* a monitor that does not answer is not waited for longer */
#define AT_ONCE 4096

/* ---- replies ------------------------------------------------------------------------------ */

static void text_bytes(struct text *text, const char *from, size_t n)
{
    if (!text->at) text->at = malloc(TEXT_MAX);
    if (!text->at) return;
    n = EXO_MIN(n, TEXT_MAX - text->used);
    memcpy(text->at + text->used, from, n);
    text->used += n;
}

void text_add(struct text *text, const char *format, ...)
{
    char line[512];
    va_list list;
    va_start(list, format);
    exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    text_bytes(text, line, strlen(line));
}

void text_body(struct text *text, const char *lines, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!text->line) text_bytes(text, " ", 1);
        text->line = lines[i] != '\n';
        text_bytes(text, &lines[i], 1);
    }
}

static void reply_end(struct session *s)
{
    if (s->text.line) text_bytes(&s->text, "\n", 1);
    s->text.line = false;
}

void session_ok(struct session *s)
{
    reply_end(s);
    text_add(&s->text, "ok\n");
}

void session_error(struct session *s, const char *format, ...)
{
    char line[256];
    va_list list;
    va_start(list, format);
    exo_vformat(line, sizeof(line), format, list);
    va_end(list);
    reply_end(s);
    text_add(&s->text, "error %s\n", line);
}

/* Sends what it can; true when nothing is left to be sent. */
static bool text_send(struct session *s, bool *some)
{
    struct text *t = &s->text;
    size_t n = exo_stream_write(s->stream, t->at + t->sent, t->used - t->sent);
    t->sent += n;
    *some |= n != 0;
    if (t->sent < t->used) return false;
    t->sent = t->used = 0;
    return true;
}

/* ---- requests -------------------------------------------------------------------------------- */

bool session_line(struct session *s)
{
    char c;
    while (exo_stream_read(s->stream, &c, 1) == 1) {
        if (c == '\n') {
            s->line[s->length] = 0;
            s->length = 0;
            return true;
        }
        if (s->length + 1 < sizeof(s->line)) s->line[s->length++] = c;
    }
    return false;
}

/* The word after the request; "" when there is none. */
static char *argument(char *line)
{
    char *at = strchr(line, ' ');
    if (!at) return line + strlen(line);
    *at = 0;
    return at + 1;
}

static bool is_order(const char *word)
{
    static const char *const orders[] = {"pause", "unpause", "shutdown", "reboot", "mem-set"};
    for (unsigned i = 0; i < EXO_COUNT(orders); i++)
        if (!strcmp(word, orders[i])) return true;
    return false;
}

/* The machine that the request names; says so where there is none. */
static struct machine *named(struct session *s, const char *name)
{
    struct machine *m = machine_named(name);
    if (!m) session_error(s, "there is no machine '%s'", name);
    return m;
}

static void request_order(struct session *s, const char *word, char *name)
{
    char *value = argument(name);
    struct machine *m = named(s, name);
    if (!m) return;
    if (machine_is_program(m))
        return session_error(s, "'%s' is a program, which can only be destroyed", name);
    exo_format(s->order, sizeof(s->order), "%s%s%s", word, *value ? " " : "", value);
    s->machine = m;
    s->id = m->id;
    s->deadline = exo_in_us(ANSWER_US);
    s->state = SESSION_ORDER;
}

void session_console(struct session *s, struct machine *m)
{
    s->machine = m;
    m->viewers++;
    exo_kept_begin(&m->kept, &s->reader);
    s->state = SESSION_CONSOLE;
    session_ok(s);
}

static void request_destroy(struct session *s, const char *name)
{
    struct machine *m = named(s, name);
    if (!m) return;
    exo_printf("%s: destroyed on request\n", m->config.name);
    machine_end(m);
    session_ok(s);
}

static void request(struct session *s)
{
    char *word = s->line, *rest = argument(s->line);
    if (!strcmp(word, "stats")) {
        report_stats(&s->text);
        session_ok(s);
    } else if (!strcmp(word, "reasons")) {
        report_reasons(&s->text);
        session_ok(s);
    } else if (!strcmp(word, "info")) {
        report_info(&s->text);
        session_ok(s);
    } else if (!strcmp(word, "envs")) {
        report_envs(&s->text);
        session_ok(s);
    } else if (!strcmp(word, "dmesg")) {
        log_read(&s->text);
        session_ok(s);
    } else if (!strcmp(word, "create")) {
        create_begin(s, rest);
    } else if (!strcmp(word, "console")) {
        struct machine *m = named(s, rest);
        if (m) session_console(s, m);
    } else if (!strcmp(word, "destroy")) {
        request_destroy(s, rest);
    } else if (is_order(word)) {
        request_order(s, word, rest);
    } else {
        session_error(s, "there is no request '%s'", word);
    }
}

/* ---- waiting for a monitor ---------------------------------------------------------------------- */

void session_answer(struct session *s, const char *answer)
{
    if (strcmp(answer, "done")) text_body(&s->text, answer, strlen(answer));
    s->state = SESSION_LINE;
    session_ok(s);
}

void session_machine_ended(struct session *s)
{
    s->state = SESSION_LINE;
    session_error(s, "the machine has ended");
}

static bool order_look(struct session *s)
{
    if (s->state == SESSION_ORDER &&
        (s->machine->state != MACHINE_RUNS || s->machine->id != s->id)) {
        session_machine_ended(s);
        return true;
    }
    if (s->state == SESSION_ORDER && machine_order(s->machine, s, s->order)) {
        s->state = SESSION_ANSWER;
        return true;
    }
    if (exo_tsc() < s->deadline) return false;
    if (s->state == SESSION_ANSWER) machine_forget(s->machine, s);
    s->state = SESSION_LINE;
    session_error(s, "its monitor does not answer");
    return true;
}

/* ---- a console -------------------------------------------------------------------------------------- */

static bool console_look(struct session *s)
{
    char text[AT_ONCE];
    struct machine *m = s->machine;
    size_t room = exo_stream_writable(s->stream), n = 0;
    if (room >= EXO_KEPT_LEAST)
        n = exo_kept_read(&m->kept, &s->reader, text, EXO_MIN(room, sizeof(text)));
    bool some = exo_stream_write(s->stream, text, n) != 0;
    if (m->state != MACHINE_RUNS) {
        if (n || s->reader.at < m->kept.written) return some;
        exo_stream_close(s->stream);
        s->stream = NULL;
        return true;
    }
    n = EXO_MIN(exo_stream_readable(s->stream), sizeof(text));
    n = EXO_MIN(n, exo_channel_writable(&m->console.channel));
    if (!n) return some;
    n = exo_stream_read(s->stream, text, n);
    exo_channel_write(&m->console.channel, text, n);
    return true;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

void session_begin(struct session *s, struct exo_stream *stream)
{
    *s = (struct session){.stream = stream};
}

static void session_end(struct session *s)
{
    if (s->state == SESSION_CREATE) create_drop(s);
    if (s->state == SESSION_ANSWER) machine_forget(s->machine, s);
    if (s->state == SESSION_CONSOLE) machine_unview(s->machine);
    if (s->stream) exo_stream_close(s->stream);
    free(s->text.at);
    *s = (struct session){0};
}

bool session_look(struct session *s)
{
    bool some = false;
    if (!s->stream) return false;
    bool gone = exo_streams_ended(s->stream->of);
    /* Who does not wait for the reply does not get it. */
    if (s->stream->ended && (s->state != SESSION_LINE || s->text.used)) gone = true;
    if (gone || exo_stream_ended(s->stream)) {
        session_end(s);
        return true;
    }
    if (!text_send(s, &some)) return some;
    switch (s->state) {
    case SESSION_LINE:
        if (!session_line(s)) return some;
        request(s);
        return true;
    case SESSION_CREATE:
        return create_look(s) | some;
    case SESSION_ORDER:
    case SESSION_ANSWER:
        return order_look(s) | some;
    case SESSION_CONSOLE:
        some |= console_look(s);
        if (!s->stream) session_end(s);
        return some;
    }
    return some;
}
