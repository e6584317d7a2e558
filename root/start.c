/* SPDX-License-Identifier: MIT
 *
 * root's beginning: from what the kernel put in place (abi/exo.h, EXO_ROOT_*) to the
 * same state that other programs find, then the configuration. The first pool,
 * exo.pool, is the largest range of RAM; programs come out of all of them. */
#include "root.h"

#define RAM_BITS 4194304 /* frames that can be kept track of: 16 GiB */
static uint64_t ram_bits[RAM_BITS / 64];
#define OWN_FRAMES 1024 /* root's own memory */

struct exo_pool root_ram[EXO_RAM_MAX];
uint32_t root_ram_count;

static uint32_t table_size(void)
{
    uint32_t sel = EXO_ROOT_RAM;
    while (sel < EXO_SELECTORS && exo_cap_info(sel) != -EXO_E_SEL)
        sel++;
    return sel;
}

/* root's own pool is the first frames of the largest range; the rest is for programs. */
static void ram_init(const struct exo_info *info)
{
    uint32_t best = 0;
    uint64_t bit = 0;
    for (uint32_t i = 0; i < info->ram_count; i++)
        if (info->ram[i].count > info->ram[best].count) best = i;
    exo_pool_init(&exo.pool, EXO_SELF, info->ram[best].sel, info->ram[best].base, OWN_FRAMES, 0,
                  ram_bits);
    bit = EXO_POOL_WORDS(OWN_FRAMES);
    for (uint32_t i = 0; i < info->ram_count; i++) {
        uint64_t skip = i == best ? OWN_FRAMES : 0;
        uint64_t count = info->ram[i].count - skip;
        count = EXO_MIN(count, (EXO_COUNT(ram_bits) - bit) * 64);
        if (!count) continue;
        exo_pool_init(&root_ram[root_ram_count++], EXO_SELF, info->ram[i].sel,
                      info->ram[i].base + skip, count, 0, ram_bits + bit);
        bit += EXO_POOL_WORDS(count);
    }
}

struct exo_pool *root_pool_for(uint64_t frames)
{
    for (uint32_t i = 0; i < root_ram_count; i++) {
        long frame = exo_frames_alloc(&root_ram[i], frames, 1);
        if (frame < 0) continue;
        exo_frames_free(&root_ram[i], (uint64_t)frame, frames);
        return &root_ram[i];
    }
    return NULL;
}

#define COM1_STATUS 0x3fd
#define CLOCK_PORT 0x71

static uint32_t ports_find(uint64_t port)
{
    for (uint32_t sel = EXO_ROOT_PORTS; sel < EXO_ROOT_ARCHIVE; sel++)
        if (exo_port_in(sel, port, 1) >= 0) return sel;
    return 0;
}

static void wall_find(void)
{
    uint64_t now = clock_read(ports_find(CLOCK_PORT)) * 1000000000, since = exo_ns(exo_tsc());
    exo.start.wall = now > since ? now - since : 0;
}

void exo_start_root(void)
{
    const struct exo_info *info = (const struct exo_info *)EXO_INFO_VA;
    uint32_t nsel = table_size();
    exo_cap_info(EXO_ROOT_TABLES);
    const struct exo_upcall_page *page = (const struct exo_upcall_page *)EXO_UPCALL_VA;
    exo.start = (struct exo_startup){
        .magic = EXO_STARTUP_MAGIC,
        .sel_env = EXO_ROOT_ENV,
        .sel_thread = EXO_ROOT_THREAD,
        .sel_tables = EXO_ROOT_TABLES,
        .tables_base = page->list[0].va,
        .tables_count = page->list[0].frame,
        .cpus = info->cpus,
        .debug = info->debug,
        .counting = info->counting,
        .tsc_hz = info->tsc_hz,
        .sel_free = info->sel_free,
        .nsel = nsel,
        .archive = {EXO_ROOT_ARCHIVE, info->archive_frame, info->archive_count, 0},
        .archive_bytes = info->archive_bytes,
        .name = "root",
    };
    exo.info = info;
    exo.start.sel_console = ports_find(COM1_STATUS);
    wall_find();
    ram_init(info);
}

static void banner(void)
{
    uint64_t frames = 0;
    char name[EXO_CPU_NAME];
    for (uint32_t i = 0; i < exo.info->ram_count; i++)
        frames += exo.info->ram[i].count;
    exo_printf("root: exovisor, ABI %u, %u CPU%s, %lu MiB free, %s\n", exo.info->abi,
               exo.info->cpus, exo.info->cpus == 1 ? "" : "s", frames >> 8, exo_cpu_name(name));
}

static void shutdown(const struct root_config *config)
{
    if (!config->shutdown_port) return;
    for (uint32_t sel = EXO_ROOT_PORTS; sel < EXO_ROOT_ARCHIVE; sel++)
        exo_port_out(sel, config->shutdown_port, config->shutdown_size, config->shutdown_value);
}

static struct root_config config;

int main(struct exo_startup *start)
{
    (void)start;
    const void *text;
    size_t size;
    banner();
    long r = exo_archive_find("config", &text, &size);
    if (r < 0) {
        exo_printf("root: the boot archive has no file 'config', or is damaged: %s\n",
                   exo_strerror(r));
    } else {
        config_read(&config, text, size);
        programs_run(&config);
    }
    exo_printf("root: all programs ended\n");
    shutdown(&config);
    for (;;)
        exo_event_wait(1, 0);
}
