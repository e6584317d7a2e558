/* SPDX-License-Identifier: MIT
 *
 * Making a machine for a client: it sends the configuration; we ask for the files that the
 * boot archive does not have, by lines "?NAME" and then "?"; it answers each with a line
 * that is its size in bytes, or "-"; we say "go"; it sends their bytes one after the other.
 * They become a small archive of the monitor's own. */
#include "vmd.h"

#define CONFIG_MAX 16384
#define FILES_MAX (3 + VM_DISKS)
#define TOTAL_MAX (1ul << 30)

enum step { STEP_CONFIG, STEP_SIZES, STEP_FILES, STEP_MEMORY };
struct create {
    enum step step;
    struct machine *machine;
    bool attach; /* then the session shows its console */
    char *text; /* the configuration */
    size_t bytes, got;
    unsigned count, at; /* files to be sent; the one that is at work */
    uint64_t left; /* bytes of it to come */
    struct {
        char name[64];
        uint64_t bytes;
    } file[FILES_MAX];
};

/* A decimal number up to most; false: it is none. */
static bool number_read(const char *text, uint64_t most, uint64_t *value)
{
    *value = 0;
    if (!*text) return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9') return false;
        *value = *value * 10 + (uint64_t)(*text - '0');
        if (*value > most) return false;
    }
    return true;
}

static bool name_good(const char *name)
{
    bool good = *name != 0;
    for (; *name; name++)
        good &= (*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
                (*name >= '0' && *name <= '9') || *name == '-' || *name == '_' || *name == '.';
    return good;
}

/* Reads the text into the machine's configuration; explains mistakes. */
static bool config_take(struct machine *m, const char *text, size_t n)
{
    uint32_t errors = config_read(&m->config, text, n);
    if (errors) return false;
    const char *name = m->config.name;
    if (!name_good(name)) {
        exo_printf("a machine's name is letters, digits, '-', '_' and '.', not '%s'\n", name);
        return false;
    }
    for (struct machine *other = machines; other < machines + MACHINES; other++)
        if (other != m && (other->state == MACHINE_RUNS || other->state == MACHINE_MAKING) &&
            !strcmp(other->config.name, name)) {
            exo_printf("there is a machine '%s' already\n", name);
            return false;
        }
    return true;
}

static void want(struct create *c, const char *name)
{
    const void *data;
    size_t size;
    if (!*name || exo_archive_find(name, &data, &size) == 0) return;
    for (unsigned i = 0; i < c->count; i++)
        if (!strcmp(c->file[i].name, name)) return;
    exo_strcpy(c->file[c->count++].name, name, sizeof(c->file[0].name));
}

static void want_all(struct create *c)
{
    const struct vm_config *config = &c->machine->config;
    want(c, config->kernel);
    want(c, config->ramdisk);
    want(c, config->firmware);
    for (uint32_t i = 0; i < config->disks; i++)
        want(c, config->disk[i].file);
}

static void entry_begin(struct machine_files *files, const char *name, uint64_t bytes)
{
    files->used += cpio_begin((char *)files->va + files->used, name, bytes);
}

static void entry_end(struct machine_files *files, uint64_t bytes)
{
    files->used += cpio_pad((char *)files->va + files->used, bytes);
}

/* Memory for all files, and the configuration in it. */
static long files_begin(struct create *c)
{
    struct machine_files *files = &c->machine->files;
    uint64_t total = cpio_size(MACHINE_CONFIG, c->bytes) + cpio_end_size();
    for (unsigned i = 0; i < c->count; i++) {
        uint64_t size = cpio_size(c->file[i].name, c->file[i].bytes);
        if (!size || total + size > TOTAL_MAX) return -EXO_E_LIMIT;
        total += size;
    }
    long r = machine_files_make(c->machine, total);
    if (r < 0) return r;
    entry_begin(files, MACHINE_CONFIG, c->bytes);
    memcpy((char *)files->va + files->used, c->text, c->bytes);
    files->used += c->bytes;
    entry_end(files, c->bytes);
    return 0;
}

/* All is there: the machine starts. Its number, or an error that was explained. */
static long finish(struct create *c)
{
    struct machine_files *files = &c->machine->files;
    files->used += cpio_end((char *)files->va + files->used);
    struct machine *m = c->machine;
    c->machine = NULL; /* it looks after itself from here on */
    return machine_start(m);
}

static void create_free(struct create *c)
{
    if (c->machine) machine_end(c->machine);
    free(c->text);
    free(c);
}

/* ---- for a client ----------------------------------------------------------------------------- */

void create_drop(struct session *s)
{
    create_free(s->create);
    s->create = NULL;
    s->state = SESSION_LINE;
}

void create_begin(struct session *s, char *bytes)
{
    uint64_t n;
    char *option = strchr(bytes, ' ');
    if (option) *option++ = 0;
    if (option && strcmp(option, "console"))
        return session_error(s, "create BYTES [console], not '%s'", option);
    if (!number_read(bytes, CONFIG_MAX, &n) || !n)
        return session_error(s, "create BYTES: a configuration has 1 to %u bytes", CONFIG_MAX);
    struct create *c = malloc(sizeof(*c));
    char *text = malloc(n);
    struct machine *m = c && text ? machine_reserve() : NULL;
    if (!m) {
        free(c);
        free(text);
        return session_error(s, "there are %u machines already", MACHINES);
    }
    *c = (struct create){.machine = m, .attach = option, .text = text, .bytes = n};
    s->create = c;
    s->state = SESSION_CREATE;
}

/* False: its memory is not there yet. */
static bool start(struct session *s)
{
    struct machine *m = s->create->machine;
    bool attach = s->create->attach;
    log_capture(&s->text, false);
    long id = machine_memory(m);
    if (id >= 0) id = finish(s->create);
    log_capture(NULL, false);
    if (id == -EXO_E_AGAIN) {
        s->deadline = exo_in_us(MEMORY_LOOK_US);
        return false;
    }
    create_drop(s);
    if (id < 0)
        session_error(s, "it cannot be made");
    else if (attach)
        session_console(s, m);
    else
        session_ok(s);
    return true;
}

static void file_next(struct session *s)
{
    struct create *c = s->create;
    if (c->at == c->count) {
        c->step = STEP_MEMORY;
        return;
    }
    c->left = c->file[c->at].bytes;
    entry_begin(&c->machine->files, c->file[c->at].name, c->left);
}

static bool config_look(struct session *s)
{
    struct create *c = s->create;
    size_t n = exo_stream_read(s->stream, c->text + c->got, c->bytes - c->got);
    c->got += n;
    if (c->got < c->bytes) return n != 0;
    log_capture(&s->text, true);
    bool good = config_take(c->machine, c->text, c->bytes);
    log_capture(NULL, false);
    if (!good) {
        create_drop(s);
        session_error(s, "the configuration has mistakes");
        return true;
    }
    want_all(c);
    for (unsigned i = 0; i < c->count; i++)
        text_add(&s->text, "?%s\n", c->file[i].name);
    text_add(&s->text, "?\n");
    c->step = STEP_SIZES;
    return true;
}

static bool sizes_look(struct session *s)
{
    struct create *c = s->create;
    for (; c->at < c->count; c->at++) {
        if (!session_line(s)) return false;
        if (number_read(s->line, TOTAL_MAX, &c->file[c->at].bytes)) continue;
        char name[64];
        exo_strcpy(name, c->file[c->at].name, sizeof(name));
        create_drop(s);
        session_error(s, "there is no file '%s', neither here nor in the boot archive", name);
        return true;
    }
    long r = files_begin(c);
    if (r < 0) {
        create_drop(s);
        session_error(s, "no memory for its files: %s", exo_strerror(r));
        return true;
    }
    text_add(&s->text, "go\n");
    c->step = STEP_FILES;
    c->at = 0;
    file_next(s);
    return true;
}

static bool files_look(struct session *s)
{
    struct create *c = s->create;
    struct machine_files *files = &c->machine->files;
    size_t n = exo_stream_read(s->stream, (char *)files->va + files->used, c->left);
    files->used += n;
    c->left -= n;
    if (c->left) return n != 0;
    entry_end(files, c->file[c->at].bytes);
    c->at++;
    file_next(s);
    return true;
}

bool create_look(struct session *s)
{
    switch (s->create->step) {
    case STEP_CONFIG:
        return config_look(s);
    case STEP_SIZES:
        return sizes_look(s);
    case STEP_MEMORY:
        return start(s);
    default:
        return files_look(s);
    }
}

/* ---- for ourselves --------------------------------------------------------------------------------- */

long create_file(const char *name)
{
    const void *data;
    size_t size;
    long r = exo_archive_find(name, &data, &size);
    if (r < 0 || !size || size > CONFIG_MAX) {
        exo_printf("vmd: no configuration '%s' in the boot archive: %s\n", name,
                   exo_strerror(r < 0 ? r : -EXO_E_LIMIT));
        return r < 0 ? r : -EXO_E_LIMIT;
    }
    struct create *c = malloc(sizeof(*c));
    char *text = malloc(size);
    struct machine *m = c && text ? machine_reserve() : NULL;
    if (!m) {
        free(c);
        free(text);
        return -EXO_E_LIMIT;
    }
    *c = (struct create){.machine = m, .text = memcpy(text, data, size), .bytes = size};
    r = config_take(m, text, size) ? 0 : -EXO_E_ARG;
    if (r == 0) want_all(c);
    if (c->count) exo_printf("vmd: %s: no file '%s' in the boot archive\n", name, c->file[0].name);
    if (r == 0) r = c->count ? -EXO_E_NONE : files_begin(c);
    while (r == 0 && (r = machine_memory(c->machine)) == -EXO_E_AGAIN) {
        exo_event_wait(0, exo_in_us(MEMORY_LOOK_US));
        r = 0;
    }
    if (r == 0) r = finish(c);
    create_free(c);
    return r;
}
