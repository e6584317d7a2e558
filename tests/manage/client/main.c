/* SPDX-License-Identifier: MIT
 *
 * A client of vmd (docs/manage.md): makes machines whose guest is tests/hostile, looks at
 * them, orders them about, ends them, and asks for what cannot be. Prints PASS or FAIL of
 * each. Last it breaks the rules of its channel, which must be its own loss only. */
#include "../../../abi/vm.h"
#include "../../../lib/exo/stream.h"

#define WAIT_US 20000000
#define REPLY 40960

static struct exo_channel channel;
static struct exo_streams streams;
static char reply[REPLY]; /* of the last request, without its last line */
static char last[256]; /* its last line */
static unsigned failed;

static void check(const char *what, bool good)
{
    failed += !good;
    exo_printf("%s manage: %s\n", good ? "PASS" : "FAIL", what);
    if (good) return;
    exo_printf("  last line '%s', body:\n", last);
    exo_write(reply, strlen(reply));
}

static bool contains(const char *text, const char *part)
{
    size_t n = strlen(part);
    for (; *text; text++)
        if (!strncmp(text, part, n)) return true;
    return !n;
}

static bool pass_time(uint64_t end)
{
    if (exo_tsc() >= end) return false;
    exo_event_wait(channel.event, end);
    exo_streams_look(&streams);
    return true;
}

static bool send_all(struct exo_stream *s, const char *data, size_t n)
{
    uint64_t end = exo_in_us(WAIT_US);
    exo_streams_look(&streams);
    while (n) {
        size_t done = exo_stream_write(s, data, n);
        data += done;
        n -= done;
        if (n && !done && !pass_time(end)) return false;
    }
    return true;
}

/* A line without its end; false: none came. */
static bool line_read(struct exo_stream *s, char *line, size_t size)
{
    uint64_t end = exo_in_us(WAIT_US);
    size_t n = 0;
    for (char c;;) {
        if (exo_stream_read(s, &c, 1) != 1) {
            if (exo_stream_ended(s) || !pass_time(end)) return false;
        } else if (c == '\n') {
            line[n] = 0;
            return true;
        } else if (n + 1 < size) {
            line[n++] = c;
        }
    }
}

/* Lines of the body into reply, up to one that is none, which is `last`. */
static bool body_read(struct exo_stream *s)
{
    size_t used = 0;
    reply[0] = 0;
    while (line_read(s, last, sizeof(last))) {
        if (last[0] != ' ') return true;
        used += (size_t)exo_format(reply + used, sizeof(reply) - used, "%s\n", last + 1);
        if (used >= sizeof(reply)) used = sizeof(reply) - 1;
    }
    exo_strcpy(last, "no reply", sizeof(last));
    return false;
}

static bool reply_read(struct exo_stream *s) { return body_read(s) && !strcmp(last, "ok"); }

static bool ask(const char *request)
{
    char line[320];
    struct exo_stream *s = exo_stream_open(&streams);
    if (!s) return false;
    exo_format(line, sizeof(line), "%s\n", request);
    bool good = send_all(s, line, strlen(line)) && reply_read(s);
    exo_stream_close(s);
    return good;
}

static bool refused(const char *request, const char *why)
{
    return !ask(request) && contains(last, why);
}

/* Sends a configuration, and `size` bytes of data for each file that is asked for; a size
 * of 0: says that there is none. */
static bool create(const char *config, const void *data, size_t size)
{
    char line[64];
    unsigned files = 0;
    struct exo_stream *s = exo_stream_open(&streams);
    if (!s) return false;
    exo_format(line, sizeof(line), "create %lu\n", strlen(config));
    bool good = send_all(s, line, strlen(line)) && send_all(s, config, strlen(config));
    while (good && (good = body_read(s)) && last[0] == '?' && last[1])
        files++;
    exo_format(line, sizeof(line), size ? "%lu\n" : "-\n", size);
    for (unsigned i = 0; i < files && good && last[0] == '?'; i++)
        good = send_all(s, line, strlen(line));
    if (good && !strcmp(last, "?") && (!files || size)) {
        good = body_read(s) && !strcmp(last, "go");
        for (unsigned i = 0; i < files && good; i++)
            good = send_all(s, data, size);
    }
    if (good && strncmp(last, "error", 5)) good = body_read(s);
    exo_stream_close(s);
    return good && !strcmp(last, "ok");
}

/* Reads the console until it shows the text; sends `keys` first. */
static bool console_shows(const char *request, const char *wanted, bool to_the_end)
{
    static char shown[8192];
    size_t used = 0;
    uint64_t end = exo_in_us(WAIT_US);
    struct exo_stream *s = exo_stream_open(&streams);
    if (!s) return false;
    bool found = false, over = !send_all(s, request, strlen(request)) || !reply_read(s);
    while ((!found || to_the_end) && !over) {
        size_t n = exo_stream_read(s, shown + used, sizeof(shown) - 1 - used);
        used += n;
        shown[used] = 0;
        found = contains(shown, wanted);
        if (!n) over = exo_stream_ended(s) || used + 1 == sizeof(shown) || !pass_time(end);
    }
    if (to_the_end) found &= exo_stream_ended(s);
    exo_stream_close(s);
    return found;
}

/* The n-th word (from 0) of the line of that machine in the last stats; 0: none. */
static uint64_t number(const char *machine, unsigned n)
{
    char begin[48];
    size_t length = (size_t)exo_format(begin, sizeof(begin), "vm %s ", machine);
    const char *at = reply;
    while (*at && strncmp(at, begin, length))
        at = strchr(at, '\n') ? strchr(at, '\n') + 1 : at + strlen(at);
    for (unsigned word = 0; *at && *at != '\n' && word < n; at++)
        word += *at == ' ';
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

static uint64_t memory_free(void)
{
    ask("stats");
    const char *at = reply;
    for (unsigned word = 0; *at && word < 5; at++)
        word += *at == ' ';
    uint64_t value = 0;
    for (; *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

#define W_TICKS 4
#define W_EXITS 18 /* the first reason */

#define SMALL "kernel = \"guest.elf\"\nmemory = 16\non_reboot = \"destroy\"\n"
static const char loops[] = "name = \"loops\"\nextra = \"die=loops\"\n" SMALL;
static const char halts[] =
    "name = \"halts\"\nextra = \"die=halts\"\n" SMALL "vif = [ \"bridge=net0\" ]\n";
static const char triple[] = "name = \"triple\"\nextra = \"die=triple\"\n" SMALL;

/* id: the number of the first machine that is made. */
static void test_machines(unsigned id)
{
    char listed[3][32], console[32];
    exo_format(listed[0], sizeof(listed[0]), "vm loops %u r ", id);
    exo_format(listed[1], sizeof(listed[1]), "vm halts %u b ", id + 1);
    exo_format(listed[2], sizeof(listed[2]), "vm loops %u p ", id);
    exo_format(console, sizeof(console), "console %u\n", id + 1);
    check("a machine is made", create(loops, NULL, 0));
    check("another one", create(halts, NULL, 0));
    check("the same name is refused", !create(loops, NULL, 0) && contains(reply, "already"));
    check("its console", console_shows("console loops\n", "hostile: begins", false));
    check("the other's, by number", console_shows(console, "hostile: begins", false));
    exo_event_wait(0, exo_in_us(200000));
    check("their memory is named", ask("envs") && contains(reply, " loops\n") &&
                                       contains(reply, " halts-guest\n") &&
                                       contains(reply, " net0-bridge\n"));
    check("both are listed",
          ask("stats") && contains(reply, listed[0]) && contains(reply, listed[1]));
    uint64_t ticks = number("loops", W_TICKS), exits = number("halts", W_EXITS + EXO_VX_PIO);
    check("port exits are counted", exits > 10);
    exo_event_wait(0, exo_in_us(200000));
    check("its time goes on", ask("stats") && number("loops", W_TICKS) > ticks);
    check("pause", ask("pause loops"));
    exo_event_wait(0, exo_in_us(50000));
    check("it is paused", ask("stats") && contains(reply, listed[2]));
    ticks = number("loops", W_TICKS);
    exo_event_wait(0, exo_in_us(200000));
    ask("stats");
    check("its time stands still", ticks && number("loops", W_TICKS) == ticks);
    check("unpause", ask("unpause loops"));
    exo_event_wait(0, exo_in_us(200000));
    check("it goes on",
          ask("stats") && number("loops", W_TICKS) > ticks && contains(reply, listed[0]));
    check("memory is set", ask("mem-set loops 8") && contains(reply, "asked to keep 8 MiB"));
    check("or refused", ask("mem-set loops 99") && contains(reply, "mem-set takes MiB"));
    check("shutdown", ask("shutdown loops"));
    check("destroy", ask("destroy loops") && ask("stats") && !contains(reply, "vm loops"));
    check("the other runs", contains(reply, listed[1]));
    check("reboot ends one that may not", ask("reboot halts"));
    exo_event_wait(0, exo_in_us(500000));
    check("it is gone", ask("stats") && !contains(reply, "vm halts"));
}

static void test_deaths(void)
{
    check("a guest that dies is made", create(triple, NULL, 0));
    check("its end can be read",
          console_shows("console triple\n", "triple fault", true) || contains(last, "no machine"));
    exo_event_wait(0, exo_in_us(500000));
    check("why is in the log", ask("dmesg") && contains(reply, "triple: ended with 0") &&
                                   contains(reply, "triple fault"));
    check("it is gone", ask("stats") && !contains(reply, "vm triple"));
}

static void test_files(const void *kernel, size_t size)
{
    static const char sent[] = "name = \"sent\"\nextra = \"die=halts\"\nkernel = \"./mine\"\n"
                               "memory = 16\n";
    static const char rubbish[] = "name = \"sent\"\nkernel = \"./mine\"\nmemory = 16\n"
                                  "disk = [ \"./mine,raw,vda,rw\", \"./other,raw,vdb,r\" ]\n";
    check("a kernel of ours", create(sent, kernel, size));
    check("it runs", console_shows("console sent\n", "hostile: begins", false));
    check("and ends", ask("destroy sent"));
    check("a file that we have not", !create(sent, NULL, 0) && contains(last, "no file './mine'"));
    check("rubbish as a kernel is taken", create(rubbish, loops, sizeof(loops)));
    exo_event_wait(0, exo_in_us(500000));
    check("and its monitor says so", ask("dmesg") && contains(reply, "sent: ended with 1"));
}

/* Not a machine: a program of another kind, from a file of ours. */
static void test_program(void)
{
    static const char config[] = "name = \"pager\"\nloader = \"program\"\nkernel = \"pager\"\n"
                                 "extra = \"mru\"\nmemory = 4\n";
    check("a program is started", create(config, NULL, 0));
    check("its console", console_shows("console pager\n", "frames: ", false));
    check("it cannot be paused", refused("pause pager", "is a program"));
    check("it is listed", ask("stats") && contains(reply, "vm pager ") && contains(reply, " - "));
    check("and ended", ask("destroy pager") && ask("stats") && !contains(reply, "vm pager"));
}

static void test_refusals(void)
{
    check("no such request", refused("nonsense", "no request 'nonsense'"));
    check("no machine", refused("pause nobody", "no machine 'nobody'") &&
                            refused("console", "no machine ''") &&
                            refused("destroy 1", "no machine '1'"));
    check("no configuration", refused("create", "has 1 to") && refused("create 0", "has 1 to") &&
                                  refused("create 99999999999999999999", "has 1 to") &&
                                  refused("create -1", "has 1 to"));
    check("mistakes are told", !create("memory = \"much\"\n", NULL, 0) &&
                                   contains(last, "mistakes") &&
                                   contains(reply, "bad value: 'memory'"));
    check("a bad name", !create("name = \"a b\"\nkernel = \"guest.elf\"\n", NULL, 0));
    check("too much memory",
          !create("name = \"big\"\nkernel = \"guest.elf\"\nmemory = 60000\n", NULL, 0) &&
              contains(reply, "no 60000 MiB of memory"));
    static char line[300];
    memset(line, 'x', sizeof(line) - 1);
    check("a line without end", refused(line, "no request 'xxx"));
}

/* So many that there is no place for more, none of which goes on. */
static void test_many(void)
{
    struct exo_stream *s[EXO_STREAMS];
    unsigned opened = 0;
    bool again;
    for (unsigned i = 0; i + 1 < EXO_STREAMS; i++)
        if ((s[opened] = exo_stream_open(&streams))) opened++;
    for (unsigned i = 0; i < opened; i++)
        send_all(s[i], "create 100\n", 11);
    exo_event_wait(0, exo_in_us(200000));
    check("too many at once",
          opened + 1 == EXO_STREAMS && refused("create 1", "8 machines already"));
    for (unsigned i = 0; i < opened; i++)
        exo_stream_close(s[i]);
    exo_event_wait(0, exo_in_us(200000));
    exo_streams_look(&streams);
    again = create(halts, NULL, 0) && ask("destroy halts");
    check("when they are gone there is room again", again);
}

/* Monitors that are none: tests/manage/liar. Whatever one does, vmd answers, what can be
 * ended ends, and all of it comes back. */
static void test_liars(void)
{
    static const char ways[] = "nsecfwgdx";
    uint64_t before = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (const char *way = ways; *way; way++) {
            char config[160], what[48];
            exo_format(config, sizeof(config),
                       "name = \"liar\"\nextra = \"liar=%c\"\nkernel = \"guest.elf\"\n"
                       "memory = 16\nvif = [ \"bridge=net0\" ]\n",
                       *way);
            exo_format(what, sizeof(what), "a monitor that lies: %c", *way);
            bool good = create(config, NULL, 0);
            exo_event_wait(0, exo_in_us(100000));
            good &= ask("stats") && ask("info") && ask("dmesg");
            good &= ask("pause liar") || contains(last, "does not answer") ||
                    contains(last, "no machine") || contains(last, "has ended");
            good &= ask("destroy liar") || contains(last, "no machine");
            good &= ask("stats") && !contains(reply, "vm liar") && !contains(reply, "LEAK");
            check(what, good);
        }
        if (!round) before = memory_free();
    }
    check("all memory is back", before && memory_free() == before);
    check("nothing leaked", ask("dmesg") && !contains(reply, "LEAK"));
}

static void test_all(const void *kernel, size_t size)
{
    check("information", ask("info") && contains(reply, "nr_machines"));
    check("reasons", ask("reasons") && contains(reply, "CPUID\tHLT\tport"));
    test_refusals();
    test_machines(1);
    test_many();
    test_program();
    uint64_t before = memory_free(); /* page tables, a bridge and a heap are there, and stay */
    test_machines(5);
    test_program();
    test_deaths();
    test_files(kernel, size);
    test_many();
    check("all memory is back", before && memory_free() == before);
    check("nothing leaked", ask("dmesg") && !contains(reply, "LEAK"));
}

int main(struct exo_startup *start)
{
    const void *kernel;
    size_t size;
    long r = exo_channel_find(&channel, "vmd", "vm");
    if (r == 0) r = exo_archive_find("guest.elf", &kernel, &size);
    if (r < 0) {
        exo_printf("FAIL manage: %s\n", exo_strerror(r));
        return 1;
    }
    exo_streams_init(&streams, &channel, true);
    if (!strcmp(start->args, "liars"))
        test_liars();
    else
        test_all(kernel, size);
    uint32_t wrong[3] = {1, 99, 0};
    exo_channel_send(&channel, wrong, sizeof(wrong));
    exo_printf("manage: %u failed\nTESTS DONE\n", failed);
    return failed != 0;
}
