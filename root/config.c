/* SPDX-License-Identifier: MIT
 *
 * The configuration: a line a program,
 *
 *   program NAME [file=FILE] [cpu=N] [memory=SIZE] [block=SIZE] [loan=SIZE] [borrow=yes]
 *           [slots=N] [slots-other=N]
 *           [tables=yes] [selectors=N] [console=yes] [irqs=yes] [archive=yes]
 *           [ports=A-B[,C-D]] [wait=yes] [args=TEXT TO THE END OF THE LINE]
 *   channel NAME NAME [tag=WORD] [peer-tag=WORD] [size=SIZE]
 *   shutdown PORT VALUE SIZE
 *
 * (one line each; # begins a comment). Sizes take K, M or G; ports are hexadecimal. A
 * block is a second range of memory, a power of two and aligned to it. loan is memory that the
 * program gets as well, a power of two from 64M on, and that it is asked to give back when a
 * program with borrow=yes needs it. archive gives the
 * boot archive, read-only. A channel joins two programs (lib/exo/channel.h): tag is the
 * word that both know it by, peer-tag what the second one sees instead; size is that of
 * each of its rings, a power of two.
 * A line with a mistake is left out and said so, with its number. */
#include "root.h"

#define LINE_MAX_LENGTH 512
#define MEMORY_DEFAULT (4ul << 20)
#define MEMORY_LEAST (256ul << 10)
#define MEMORY_MOST (64ul << 30)
#define LOAN_LEAST (2048ul * 1024 * EXO_LOAN_PIECES) /* pieces for guests: 2 MiB */
#define RING_DEFAULT (64u << 10)

static void complain(struct root_config *config, uint32_t line, const char *what, const char *where)
{
    exo_printf("root: config line %u: %s: '%s'\n", line, what, where);
    config->errors++;
}

/* A number in that base, at most `most`; *end is what follows. */
static bool parse_number(const char *text, unsigned base, uint64_t most, uint64_t *value,
                         const char **end)
{
    uint64_t v = 0;
    const char *at = text;
    if (base == 16 && at[0] == '0' && at[1] == 'x') at += 2;
    const char *first = at;
    for (;; at++) {
        unsigned digit = *at >= '0' && *at <= '9'   ? (unsigned)(*at - '0')
                         : *at >= 'a' && *at <= 'f' ? (unsigned)(*at - 'a') + 10
                                                    : 99;
        if (digit >= base) break;
        v = v * base + digit;
        if (v > most) return false;
    }
    *value = v;
    *end = at;
    return at != first;
}

static bool parse_whole(const char *text, uint64_t most, uint32_t *value)
{
    uint64_t v;
    const char *end;
    if (!parse_number(text, 10, most, &v, &end) || *end) return false;
    *value = (uint32_t)v;
    return true;
}

static bool parse_size(const char *text, uint64_t least, uint64_t *value)
{
    const char *end;
    if (!parse_number(text, 10, MEMORY_MOST, value, &end)) return false;
    unsigned shift = *end == 'K' ? 10 : *end == 'M' ? 20 : *end == 'G' ? 30 : 0;
    if (shift) end++;
    if (*end || *value > MEMORY_MOST >> shift) return false;
    *value <<= shift;
    return *value >= least;
}

static bool power_of_two(uint64_t value) { return !(value & (value - 1)); }

static bool parse_yes(const char *text, bool *value)
{
    *value = !strcmp(text, "yes");
    return *value || !strcmp(text, "no");
}

static bool parse_ports(const char *text, struct root_program *p)
{
    uint64_t first, last;
    for (;;) {
        if (p->nports == ROOT_PORTS || !parse_number(text, 16, 0xffff, &first, &text)) return false;
        last = first;
        if (*text == '-' && !parse_number(text + 1, 16, 0xffff, &last, &text)) return false;
        if (last < first) return false;
        p->ports[p->nports].first = (uint32_t)first;
        p->ports[p->nports++].last = (uint32_t)last;
        if (!*text) return true;
        if (*text++ != ',') return false;
    }
}

static bool parse_name(const char *text, char *to, size_t size)
{
    if (!*text || strlen(text) >= size) return false;
    exo_strcpy(to, text, size);
    return true;
}

static bool parse_option(struct root_program *p, const char *key, const char *value)
{
    if (!strcmp(key, "file")) return parse_name(value, p->file, sizeof(p->file));
    if (!strcmp(key, "cpu")) return parse_whole(value, EXO_MAX_CPUS - 1, &p->cpu);
    if (!strcmp(key, "memory")) return parse_size(value, MEMORY_LEAST, &p->memory);
    if (!strcmp(key, "block"))
        return parse_size(value, MEMORY_LEAST, &p->block) && power_of_two(p->block);
    if (!strcmp(key, "loan"))
        return parse_size(value, LOAN_LEAST, &p->loan) && power_of_two(p->loan);
    if (!strcmp(key, "borrow")) return parse_yes(value, &p->borrow);
    if (!strcmp(key, "slots")) return parse_whole(value, EXO_SLOTS_PER_CPU, &p->slots);
    if (!strcmp(key, "slots-other")) return parse_whole(value, EXO_SLOTS_PER_CPU, &p->slots_other);
    if (!strcmp(key, "selectors"))
        return parse_whole(value, EXO_SELECTORS, &p->selectors) && p->selectors >= 64;
    if (!strcmp(key, "ports")) return parse_ports(value, p);
    if (!strcmp(key, "console")) return parse_yes(value, &p->console);
    if (!strcmp(key, "tables")) return parse_yes(value, &p->tables);
    if (!strcmp(key, "irqs")) return parse_yes(value, &p->irqs);
    if (!strcmp(key, "archive")) return parse_yes(value, &p->archive);
    if (!strcmp(key, "wait")) return parse_yes(value, &p->wait);
    return false;
}

/* Cuts the next word off *text; an empty one at the end. */
static char *next_word(char **text)
{
    char *at = *text;
    while (*at == ' ' || *at == '\t')
        at++;
    char *word = at;
    while (*at && *at != ' ' && *at != '\t')
        at++;
    *text = *at ? at + 1 : at;
    *at = 0;
    return word;
}

static bool name_taken(const struct root_config *config, const char *name)
{
    for (uint32_t i = 0; i < config->count; i++)
        if (!strcmp(config->programs[i].name, name)) return true;
    return false;
}

static void read_program(struct root_config *config, uint32_t line, char *rest)
{
    struct root_program p = {.line = line, .memory = MEMORY_DEFAULT, .selectors = 256};
    char *name = next_word(&rest);
    if (!parse_name(name, p.name, sizeof(p.name)))
        return complain(config, line, "a program needs a name below 32 characters", name);
    if (name_taken(config, name))
        return complain(config, line, "a program of this name is there already", name);
    exo_strcpy(p.file, name, sizeof(p.file));
    for (;;) {
        while (*rest == ' ' || *rest == '\t')
            rest++;
        if (!strncmp(rest, "args=", 5)) {
            if (strlen(rest + 5) >= sizeof(p.args))
                return complain(config, line, "args is too long", rest);
            exo_strcpy(p.args, rest + 5, sizeof(p.args));
            break;
        }
        char *word = next_word(&rest);
        if (!*word) break;
        char *value = strchr(word, '=');
        if (!value) return complain(config, line, "want OPTION=VALUE", word);
        *value++ = 0;
        if (!parse_option(&p, word, value)) {
            value[-1] = '=';
            return complain(config, line, "unknown option or bad value", word);
        }
    }
    if (config->count == ROOT_PROGRAMS)
        return complain(config, line, "more than 32 programs", p.name);
    config->programs[config->count++] = p;
}

static bool channel_option(struct root_channel *c, const char *key, const char *value)
{
    uint64_t size;
    if (!strcmp(key, "tag"))
        return parse_name(value, c->tag[0], sizeof(c->tag[0])) &&
               (c->tag[1][0] || parse_name(value, c->tag[1], sizeof(c->tag[1])));
    if (!strcmp(key, "peer-tag")) return parse_name(value, c->tag[1], sizeof(c->tag[1]));
    if (strcmp(key, "size") || !parse_size(value, EXO_PAGE, &size) || !power_of_two(size) ||
        size > EXO_CHANNEL_RING_MAX)
        return false;
    c->size = (uint32_t)size;
    return true;
}

static void read_channel(struct root_config *config, uint32_t line, char *rest)
{
    struct root_channel c = {.line = line, .size = RING_DEFAULT};
    for (int i = 0; i < 2; i++) {
        char *name = next_word(&rest);
        if (!parse_name(name, c.side[i], sizeof(c.side[i])))
            return complain(config, line, "a channel needs the names of two programs", name);
    }
    if (!strcmp(c.side[0], c.side[1]))
        return complain(config, line, "a channel joins two different programs", c.side[0]);
    for (char *word; *(word = next_word(&rest));) {
        char *value = strchr(word, '=');
        if (!value) return complain(config, line, "want OPTION=VALUE", word);
        *value++ = 0;
        if (!channel_option(&c, word, value)) {
            value[-1] = '=';
            return complain(config, line, "unknown option or bad value", word);
        }
    }
    if (config->nchannels == ROOT_CHANNELS)
        return complain(config, line, "more than 64 channels", c.side[0]);
    config->channels[config->nchannels++] = c;
}

static void read_shutdown(struct root_config *config, uint32_t line, char *rest)
{
    uint64_t v[3];
    for (int i = 0; i < 3; i++) {
        const char *end;
        char *word = next_word(&rest);
        if (!parse_number(word, 16, 0xffff, &v[i], &end) || *end)
            return complain(config, line, "want: shutdown PORT VALUE SIZE, hexadecimal", word);
    }
    if (v[2] != 1 && v[2] != 2 && v[2] != 4)
        return complain(config, line, "size is 1, 2 or 4", "shutdown");
    config->shutdown_port = (uint32_t)v[0];
    config->shutdown_value = (uint32_t)v[1];
    config->shutdown_size = (uint32_t)v[2];
}

static void read_line(struct root_config *config, uint32_t number, char *line)
{
    char *comment = strchr(line, '#');
    if (comment) *comment = 0;
    char *rest = line;
    char *word = next_word(&rest);
    if (!*word) return;
    if (!strcmp(word, "program"))
        read_program(config, number, rest);
    else if (!strcmp(word, "channel"))
        read_channel(config, number, rest);
    else if (!strcmp(word, "shutdown"))
        read_shutdown(config, number, rest);
    else
        complain(config, number, "want 'program', 'channel' or 'shutdown'", word);
}

void config_read(struct root_config *config, const char *text, uint64_t size)
{
    char line[LINE_MAX_LENGTH];
    uint64_t at = 0;
    for (uint32_t number = 1; at < size; number++) {
        uint64_t length = 0;
        while (at + length < size && text[at + length] != '\n')
            length++;
        if (length < sizeof(line)) {
            memcpy(line, text + at, length);
            line[length] = 0;
            if (length && line[length - 1] == '\r') line[length - 1] = 0;
            read_line(config, number, line);
        } else {
            complain(config, number, "longer than 511 characters", "");
        }
        at += length + 1;
    }
}
