/* SPDX-License-Identifier: MIT
 *
 * vm create: sends the configuration, and the files that the manager asks for. */
#include "vm.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX 16384
#define FILES_MAX 16

struct config {
    char text[CONFIG_MAX];
    size_t used;
};

static bool config_add(struct config *config, const char *text, size_t n)
{
    if (n > sizeof(config->text) - config->used) {
        fprintf(stderr, "vm: the configuration is longer than %u bytes\n", CONFIG_MAX);
        return false;
    }
    memcpy(config->text + config->used, text, n);
    config->used += n;
    return true;
}

static bool config_file(struct config *config, const char *path)
{
    char piece[1024];
    FILE *file = fopen(path, "r");
    if (!file) {
        fprintf(stderr, "vm: %s: %s\n", path, strerror(errno));
        return false;
    }
    bool good = true;
    for (size_t n; good && (n = fread(piece, 1, sizeof(piece), file));)
        good = config_add(config, piece, n);
    fclose(file);
    return good && config_add(config, "\n", 1);
}

/* KEY=VALUE of the command line: a value that is neither a list nor in quotes gets some. */
static bool config_option(struct config *config, const char *option)
{
    char line[1200];
    const char *value = strchr(option, '=');
    if (!value) {
        fprintf(stderr, "vm: want KEY=VALUE, not '%s'\n", option);
        return false;
    }
    bool bare = !strchr("[\"'", value[1]);
    int n = snprintf(line, sizeof(line), "%.*s = %s%s%s\n", (int)(value - option), option,
                     bare ? "\"" : "", value + 1, bare ? "\"" : "");
    return n > 0 && (size_t)n < sizeof(line) && config_add(config, line, (size_t)n);
}

/* A file that is asked for; -1: there is none. */
static int file_open(const char *name)
{
    struct stat info;
    int fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && (fstat(fd, &info) < 0 || !S_ISREG(info.st_mode))) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool size_send(struct vm_link *link, int fd)
{
    struct stat info;
    if (fd < 0 || fstat(fd, &info) < 0) return vm_send(link, "-\n");
    return vm_send(link, "%llu\n", (unsigned long long)info.st_size);
}

static bool file_send(struct vm_link *link, int fd)
{
    static char piece[65536];
    struct stat info;
    if (fstat(fd, &info) < 0) return false;
    for (off_t left = info.st_size; left > 0;) {
        ssize_t n = read(fd, piece, sizeof(piece));
        if (n <= 0) {
            fprintf(stderr, "vm: a file became shorter while it was sent\n");
            return false;
        }
        if (n > left) n = (ssize_t)left;
        if (!vm_write(link, piece, (size_t)n)) return false;
        left -= n;
    }
    return true;
}

/* The dialogue after the configuration. */
static bool files(struct vm_link *link)
{
    char line[512];
    int fd[FILES_MAX];
    unsigned count = 0, sent = 0;
    bool refused = false;
    while (vm_line(link, line, sizeof(line)) && strcmp(line, "go")) {
        if (line[0] == ' ') {
            fprintf(stderr, "%s\n", line + 1);
        } else if (!strcmp(line, "?")) {
            for (unsigned i = 0; i < count; i++)
                size_send(link, fd[i]);
        } else if (line[0] == '?' && count < FILES_MAX) {
            fd[count++] = file_open(line + 1);
        } else {
            fprintf(stderr, "vm: %s\n", strncmp(line, "error ", 6) ? line : line + 6);
            refused = true;
            break;
        }
    }
    for (; !refused && sent < count && fd[sent] >= 0 && file_send(link, fd[sent]); sent++)
        ;
    for (unsigned i = 0; i < count; i++)
        if (fd[i] >= 0) close(fd[i]);
    return !refused && sent == count;
}

/* The name that the configuration gives: the last name = of it. */
static void name_find(const struct config *config, char *name, size_t size)
{
    const char *at = config->text, *end = at + config->used;
    snprintf(name, size, "vm");
    while (at < end) {
        const char *line_end = memchr(at, '\n', (size_t)(end - at));
        if (!line_end) line_end = end;
        char line[256], value[64];
        snprintf(line, sizeof(line), "%.*s", (int)(line_end - at), at);
        if (sscanf(line, " name = %*[\"']%63[^\"']", value) == 1) snprintf(name, size, "%s", value);
        at = line_end + 1;
    }
}

/* Makes what the configuration says; attach: and shows its console, which then is this
 * conversation's. */
static int make(const struct config *config, bool attach)
{
    struct vm_link link;
    char name[64];
    bool good = vm_open(&link, "vm") &&
                vm_send(&link, "create %zu%s\n", config->used, attach ? " console" : "") &&
                vm_write(&link, config->text, config->used) && files(&link) &&
                vm_reply(&link, NULL);
    name_find(config, name, sizeof(name));
    int status = good && attach ? console_show(&link, name) : !good;
    vm_close(&link);
    return status;
}

int create(int argc, char **argv)
{
    static struct config config;
    bool attach = !strcmp(argv[0], "-c");
    argc -= attach, argv += attach;
    if (argc < 1) {
        fprintf(stderr, "vm: create wants a configuration's file\n");
        return 2;
    }
    if (!config_file(&config, argv[0])) return 1;
    for (int i = 1; i < argc; i++)
        if (!config_option(&config, argv[i])) return 1;
    printf("Parsing config from %s\n", argv[0]);
    fflush(stdout);
    return make(&config, attach);
}

/* A value in quotes; false, with a message: it has some itself. */
static bool config_quoted(struct config *config, const char *key, const char *value)
{
    char line[1200];
    int n = snprintf(line, sizeof(line), "%s = \"%s\"\n", key, value);
    if (!strpbrk(value, "\"\n") && n > 0 && (size_t)n < sizeof(line))
        return config_add(config, line, (size_t)n);
    fprintf(stderr, "vm: '%s' cannot be passed on\n", value);
    return false;
}

int run(int argc, char **argv)
{
    static struct config config;
    const char *memory = "4", *name = NULL;
    char arguments[512] = "";
    bool background = false;
    for (int option; (option = getopt(argc, argv, "+bm:n:")) != -1;) {
        if (option == 'b') background = true;
        if (option == 'm' && optarg) memory = optarg;
        if (option == 'n') name = optarg;
        if (option == '?') return 2;
    }
    if (optind >= argc) {
        fprintf(stderr, "vm: run wants a program's file\n");
        return 2;
    }
    const char *file = argv[optind], *slash = strrchr(file, '/');
    for (int i = optind + 1; i < argc; i++) {
        size_t used = strlen(arguments);
        snprintf(arguments + used, sizeof(arguments) - used, "%s%s", used ? " " : "", argv[i]);
    }
    bool good = config_quoted(&config, "name",
                              name    ? name
                              : slash ? slash + 1
                                      : file) &&
                config_quoted(&config, "loader", "program") &&
                config_quoted(&config, "kernel", file) &&
                config_quoted(&config, "memory", memory) &&
                (!*arguments || config_quoted(&config, "extra", arguments));
    return good ? make(&config, !background) : 1;
}
