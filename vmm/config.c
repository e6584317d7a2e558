/* SPDX-License-Identifier: MIT
 *
 * The configuration of a virtual machine, in the form of xl.cfg(5): KEY = VALUE, where a
 * value is a number, a string in quotes, or a list of strings in brackets; # begins a
 * comment. Every mistake is said with its line, and counted; the rest is read on.
 */
#include "vmm.h"

#define WORD 1100
#define MEMORY_LEAST 4ull /* MiB */
#define MEMORY_MOST (64ull << 10)

struct reader {
    const char *at, *end;
    unsigned line;
    uint32_t errors;
    struct vm_config *config;
};

static void complain(struct reader *r, const char *what, const char *where)
{
    exo_printf("configuration line %u: %s: '%s'\n", r->line, what, where);
    r->errors++;
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static void skip_space(struct reader *r, bool lines)
{
    while (r->at < r->end) {
        if (*r->at == '#') {
            while (r->at < r->end && *r->at != '\n')
                r->at++;
            continue;
        }
        if (!is_space(*r->at) || (*r->at == '\n' && !lines)) return;
        if (*r->at++ == '\n') r->line++;
    }
}

static void skip_line(struct reader *r)
{
    while (r->at < r->end && *r->at != '\n')
        r->at++;
}

/* A string in quotes, or a bare word of letters, digits, '_' and '.'. */
static bool read_word(struct reader *r, char *to, size_t size)
{
    size_t n = 0;
    char quote = r->at < r->end && (*r->at == '"' || *r->at == '\'') ? *r->at++ : 0;
    for (; r->at < r->end; r->at++) {
        char c = *r->at;
        bool bare = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '.' || c == '-';
        if (quote ? c == quote || c == '\n' || !c : !bare) break;
        if (n + 1 >= size) return false;
        to[n++] = c;
    }
    to[n] = 0;
    if (!quote) return n != 0;
    if (r->at == r->end || *r->at != quote) return false;
    r->at++;
    return true;
}

static bool parse_number(const char *text, uint64_t most, uint64_t *value)
{
    uint64_t v = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        v = v * 10 + (uint64_t)(*at - '0');
        if (v > most) return false;
    }
    *value = v;
    return at != text && !*at;
}

static bool copy(char *to, size_t size, const char *from)
{
    if (strlen(from) >= size) return false;
    exo_strcpy(to, from, size);
    return true;
}

/* ---- elements of lists: parts between commas, KEY=VALUE or by place ---------------------- */

/* Cuts the next part off *text, without spaces around; false at the end. */
static bool next_part(char **text, char **part)
{
    char *at = *text;
    if (!at) return false;
    while (*at == ' ' || *at == '\t')
        at++;
    *part = at;
    char *comma = strchr(at, ',');
    *text = comma ? comma + 1 : NULL;
    char *end = comma ? comma : at + strlen(at);
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    return true;
}

/* Size like 64M for an empty RAM disk; a file's name otherwise. */
static bool disk_target(struct vm_disk_config *disk, const char *value)
{
    size_t n = strlen(value);
    uint64_t number;
    char digits[24];
    unsigned shift = !n                    ? 0
                     : value[n - 1] == 'K' ? 10
                     : value[n - 1] == 'M' ? 20
                     : value[n - 1] == 'G' ? 30
                                           : 0;
    if (strncmp(value, "ram:", 4)) return *value && copy(disk->file, sizeof(disk->file), value);
    if (!shift || n - 5 >= sizeof(digits)) return false;
    memcpy(digits, value + 4, n - 5);
    digits[n - 5] = 0;
    if (!parse_number(digits, (1ull << 40) >> shift, &number) || !number) return false;
    disk->bytes = number << shift;
    return true;
}

static bool disk_option(struct vm_disk_config *disk, const char *key, const char *value)
{
    if (!strcmp(key, "target")) return disk_target(disk, value);
    if (!strcmp(key, "vdev")) return *value && copy(disk->name, sizeof(disk->name), value);
    if (!strcmp(key, "format")) return !strcmp(value, "raw");
    if (!strcmp(key, "access")) {
        disk->read_only = !strcmp(value, "r") || !strcmp(value, "ro");
        return disk->read_only || !strcmp(value, "w") || !strcmp(value, "rw");
    }
    return false;
}

/* xl-disk-configuration(5): target, format, vdev, access by place. */
static void add_disk(struct reader *r, char *text)
{
    static const char *const places[] = {"target", "format", "vdev", "access"};
    struct vm_config *c = r->config;
    struct vm_disk_config disk = {0};
    unsigned place = 0;
    char *part;
    if (c->disks == VM_DISKS) return complain(r, "more than 4 disks", text);
    while (next_part(&text, &part)) {
        char *value = strchr(part, '=');
        const char *key = value ? part : place < EXO_COUNT(places) ? places[place++] : "";
        if (value)
            *value++ = 0;
        else
            value = part;
        if (!*value && strcmp(key, "target")) continue; /* a place left empty */
        if (!disk_option(&disk, key, value)) return complain(r, "bad part of a disk", part);
    }
    if (!disk.file[0] && !disk.bytes) return complain(r, "a disk needs a target", "disk");
    if (!disk.name[0]) exo_format(disk.name, sizeof(disk.name), "vd%c", 'a' + c->disks);
    c->disk[c->disks++] = disk;
}

static bool parse_mac(const char *text, uint8_t mac[6])
{
    for (unsigned i = 0; i < 6; i++) {
        unsigned v = 0;
        for (unsigned k = 0; k < 2; k++, text++) {
            char c = *text | 0x20;
            if (c >= '0' && c <= '9')
                v = v << 4 | (unsigned)(c - '0');
            else if (c >= 'a' && c <= 'f')
                v = v << 4 | (unsigned)(c - 'a' + 10);
            else
                return false;
        }
        if (*text++ != (i < 5 ? ':' : 0)) return false;
        mac[i] = (uint8_t)v;
    }
    return !(mac[0] & 1); /* no group address */
}

/* A card without a mac= gets one of the locally administered range: from the name. */
static void make_mac(const struct vm_config *c, uint8_t mac[6])
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (const char *s = c->name; *s; s++)
        hash = (hash ^ (uint8_t)*s) * 16777619u;
    const uint8_t made[6] = {
        0x52, 0x54, (uint8_t)(hash >> 16), (uint8_t)(hash >> 8), (uint8_t)hash, (uint8_t)c->cards};
    memcpy(mac, made, sizeof(made));
}

static void add_card(struct reader *r, char *text)
{
    struct vm_config *c = r->config;
    struct vm_card_config card = {0};
    bool mac = false;
    char *part;
    if (c->cards == VM_CARDS) return complain(r, "more than 4 network cards", text);
    while (next_part(&text, &part)) {
        char *value = strchr(part, '=');
        if (!*part) continue;
        if (value) *value++ = 0;
        bool good = false;
        if (value && !strcmp(part, "mac"))
            good = mac = parse_mac(value, card.mac);
        else if (value && !strcmp(part, "bridge"))
            good = *value && copy(card.bridge, sizeof(card.bridge), value);
        if (!good) return complain(r, "bad part of a network card", part);
    }
    if (!mac) make_mac(c, card.mac);
    if (!card.bridge[0]) exo_format(card.bridge, sizeof(card.bridge), "net%u", c->cards);
    c->card[c->cards++] = card;
}

/* ---- keys ------------------------------------------------------------------------------------ */

static bool set_loader(struct vm_config *c, const char *value)
{
    static const char *const names[] = {"auto",      "bzimage",  "pvh",
                                        "multiboot", "firmware", "program"};
    for (unsigned i = 0; i < EXO_COUNT(names); i++)
        if (!strcmp(value, names[i])) {
            c->loader = (enum vm_loader)i;
            return true;
        }
    return false;
}

/* root= and extra= become one command line, in the order they come in. */
static bool append(char *to, size_t size, const char *prefix, const char *value)
{
    size_t used = strlen(to);
    if (used + strlen(prefix) + strlen(value) + 2 > size) return false;
    exo_format(to + used, size - used, "%s%s%s", used ? " " : "", prefix, value);
    return true;
}

static bool set_string(struct vm_config *c, const char *key, const char *value)
{
    uint64_t number;
    if (!strcmp(key, "name")) return *value && copy(c->name, sizeof(c->name), value);
    if (!strcmp(key, "kernel")) return copy(c->kernel, sizeof(c->kernel), value);
    if (!strcmp(key, "ramdisk")) return copy(c->ramdisk, sizeof(c->ramdisk), value);
    if (!strcmp(key, "firmware")) return copy(c->firmware, sizeof(c->firmware), value);
    if (!strcmp(key, "extra") || !strcmp(key, "cmdline"))
        return append(c->extra, sizeof(c->extra), "", value);
    if (!strcmp(key, "root")) return append(c->extra, sizeof(c->extra), "root=", value);
    if (!strcmp(key, "loader")) return set_loader(c, value);
    if (!strcmp(key, "on_reboot")) {
        c->on_reboot_restart = !strcmp(value, "restart");
        return c->on_reboot_restart || !strcmp(value, "destroy");
    }
    if (!strcmp(key, "memory")) {
        if (!parse_number(value, MEMORY_MOST, &number) || number < MEMORY_LEAST) return false;
        c->memory = number << 20;
        return true;
    }
    if (!strcmp(key, "vcpus")) {
        if (!parse_number(value, VM_CPUS, &number) || !number) return false;
        c->cpus = (uint32_t)number;
        return true;
    }
    return false;
}

/* What xl knows and we have no use for: said, but no mistake. */
static bool passed_over(const char *key)
{
    static const char *const keys[] = {"type",        "builder",   "maxmem",   "maxvcpus", "uuid",
                                       "serial",      "vnc",       "on_crash", "boot",     "acpi",
                                       "on_poweroff", "localtime", "apic"};
    for (unsigned i = 0; i < EXO_COUNT(keys); i++)
        if (!strcmp(key, keys[i])) return true;
    return false;
}

static void read_list(struct reader *r, const char *key)
{
    char word[WORD];
    bool disks = !strcmp(key, "disk"), cards = !strcmp(key, "vif");
    if (!disks && !cards && !passed_over(key)) complain(r, "no list of this name is known", key);
    for (r->at++;;) {
        skip_space(r, true);
        if (r->at == r->end) return complain(r, "the list has no end", key);
        if (*r->at == ']') break;
        if (*r->at == ',') {
            r->at++;
            continue;
        }
        if (!read_word(r, word, sizeof(word))) {
            complain(r, "want strings in quotes", key);
            return skip_line(r);
        }
        if (disks) add_disk(r, word);
        if (cards) add_card(r, word);
    }
    r->at++;
}

static void read_assignment(struct reader *r)
{
    char key[64], word[WORD];
    if (!read_word(r, key, sizeof(key))) {
        complain(r, "want KEY = VALUE", "");
        return skip_line(r);
    }
    skip_space(r, false);
    if (r->at == r->end || *r->at != '=') {
        complain(r, "want '=' behind", key);
        return skip_line(r);
    }
    r->at++;
    skip_space(r, false);
    if (r->at < r->end && *r->at == '[') {
        read_list(r, key);
    } else if (!read_word(r, word, sizeof(word))) {
        complain(r, "no value, or too long, or its quote is open", key);
        return skip_line(r);
    } else if (passed_over(key)) {
        exo_printf("configuration line %u: '%s' has no meaning here\n", r->line, key);
    } else if (!set_string(r->config, key, word)) {
        complain(r, "unknown key or bad value", key);
    }
    skip_space(r, false);
    if (r->at < r->end && *r->at == ';') {
        r->at++; /* another one may follow */
    } else if (r->at < r->end && *r->at != '\n') {
        complain(r, "more than one value", key);
        skip_line(r);
    }
}

uint32_t config_read(struct vm_config *config, const char *text, uint64_t size)
{
    *config = (struct vm_config){
        .memory = 128ull << 20, .cpus = 1, .name = "vm", .on_reboot_restart = true};
    struct reader r = {text, text + size, 1, 0, config};
    for (;;) {
        skip_space(&r, true);
        if (r.at == r.end) break;
        read_assignment(&r);
    }
    if (!config->kernel[0] && !config->firmware[0])
        complain(&r, "there is neither a kernel nor a firmware", "end");
    return r.errors;
}
