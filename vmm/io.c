/* SPDX-License-Identifier: MIT
 *
 * Who answers which port and which address. Ports: one byte a port names its range, so
 * that an access costs the same whoever is there. Device memory: a short list, the range
 * found last is tried first. Both change only under the device lock, which every access
 * holds as well. Ranges of one kind never overlap.
 */
#include "vmm.h"

#define PORTS 65536u
#define PORT_RANGES 64 /* numbered from 1: 0 is nobody */
#define MMIO_RANGES 64

static uint8_t port_owner[PORTS];
static struct io_range ports[PORT_RANGES];
static struct io_range mmios[MMIO_RANGES]; /* count 0: free */
static unsigned mmio_last;

static uint64_t ones(unsigned size) { return ~0ull >> (64 - 8 * size); }

static uint64_t port_ones(unsigned size) { return (1ull << 8 * size) - 1; } /* at most 4 */

/* ---- ports ---------------------------------------------------------------------------- */

long port_add(const struct io_range *range)
{
    if (range->count == 0 || range->base >= PORTS || range->count > PORTS - range->base)
        return -EXO_E_RANGE;
    for (uint64_t p = range->base; p < range->base + range->count; p++)
        if (port_owner[p]) return -EXO_E_BOUND;
    for (unsigned i = 1; i < PORT_RANGES; i++) {
        if (ports[i].count) continue;
        ports[i] = *range;
        memset(port_owner + range->base, (int)i, range->count);
        return 0;
    }
    return -EXO_E_LIMIT;
}

long port_bytes_add(uint64_t base, uint64_t count, void *device, io_read_fn *read,
                    io_write_fn *write)
{
    return port_add(&(struct io_range){base, count, device, read, write, true});
}

void port_remove(void *device, uint64_t base)
{
    uint8_t owner = base < PORTS ? port_owner[base] : 0;
    if (!owner || ports[owner].device != device || ports[owner].base != base) return;
    memset(port_owner + base, 0, ports[owner].count);
    ports[owner] = (struct io_range){0};
}

/* The range that has all of the access, or NULL. */
static inline const struct io_range *port_range(uint64_t port, unsigned size)
{
    if (port >= PORTS) return NULL;
    const struct io_range *r = &ports[port_owner[port]]; /* nobody's has no ports */
    return port - r->base + size <= r->count && (size == 1 || !r->bytes) ? r : NULL;
}

/* A wide access across two devices, or beyond one's end, or to a device of bytes: two
 * narrower ones. */
static __attribute__((noinline)) uint64_t port_in_halves(uint64_t port, unsigned size)
{
    if (size == 1) return ones(1);
    unsigned half = size / 2;
    return port_in(port, half) | port_in(port + half, half) << 8 * half;
}

static __attribute__((noinline)) void port_out_halves(uint64_t port, unsigned size, uint64_t value)
{
    if (size == 1) return;
    unsigned half = size / 2;
    port_out(port, half, value);
    port_out(port + half, half, value >> 8 * half);
}

uint64_t port_in(uint64_t port, unsigned size)
{
    const struct io_range *r = port_range(port, size);
    if (!r) return port_in_halves(port, size);
    return r->read(r->device, port - r->base, size) & port_ones(size);
}

void port_out(uint64_t port, unsigned size, uint64_t value)
{
    const struct io_range *r = port_range(port, size);
    if (!r) return port_out_halves(port, size, value);
    r->write(r->device, port - r->base, size, value & port_ones(size));
}

/* ---- device memory -------------------------------------------------------------------- */

long mmio_add(const struct io_range *range)
{
    struct io_range *free = NULL;
    if (range->count == 0 || range->count > ~range->base) return -EXO_E_RANGE;
    for (unsigned i = 0; i < MMIO_RANGES; i++) {
        struct io_range *r = &mmios[i];
        if (!r->count && !free) free = r;
        if (r->count && r->base < range->base + range->count && range->base < r->base + r->count)
            return -EXO_E_BOUND;
    }
    if (!free) return -EXO_E_LIMIT;
    *free = *range;
    return 0;
}

void mmio_remove(void *device, uint64_t base)
{
    for (unsigned i = 0; i < MMIO_RANGES; i++)
        if (mmios[i].count && mmios[i].device == device && mmios[i].base == base)
            mmios[i] = (struct io_range){0};
}

static bool mmio_inside(const struct io_range *r, uint64_t address, unsigned size)
{
    return address >= r->base && address - r->base < r->count &&
           size <= r->count - (address - r->base);
}

static const struct io_range *mmio_range(uint64_t address, unsigned size)
{
    if (mmio_inside(&mmios[mmio_last], address, size)) return &mmios[mmio_last];
    for (unsigned i = 0; i < MMIO_RANGES; i++) {
        if (!mmio_inside(&mmios[i], address, size)) continue;
        mmio_last = i;
        return &mmios[i];
    }
    return NULL;
}

bool mmio_read(uint64_t address, unsigned size, uint64_t *value)
{
    const struct io_range *r = mmio_range(address, size);
    *value = ones(size);
    if (r) *value &= r->read(r->device, address - r->base, size);
    return r != NULL;
}

bool mmio_write(uint64_t address, unsigned size, uint64_t value)
{
    const struct io_range *r = mmio_range(address, size);
    if (r) r->write(r->device, address - r->base, size, value & ones(size));
    return r != NULL;
}

void io_reset(void)
{
    memset(port_owner, 0, sizeof(port_owner));
    memset(ports, 0, sizeof(ports));
    memset(mmios, 0, sizeof(mmios));
}
