/* SPDX-License-Identifier: MIT
 *
 * A firmware image: it ends at 4 GiB, its last 128 KiB are below 1 MiB too, and the CPU
 * starts in it as after reset (Intel SDM vol. 3, 10.1.4).
 */
#include "load.h"
#include "vcpu.h"

#define FIRMWARE_MAX (16ull << 20)
#define LOW_COPY 0x20000ull

long load_firmware(const struct vm_image *firmware, struct vm_start *start)
{
    uint64_t bytes = firmware->bytes;
    if (bytes == 0 || bytes > FIRMWARE_MAX || bytes % EXO_PAGE != 0) {
        exo_printf("a firmware image has whole pages, up to %llu MiB: this one has %lu bytes\n",
                   FIRMWARE_MAX >> 20, bytes);
        return -EXO_E_ARG;
    }
    long r = memory_rom((4ull << 30) - bytes, firmware->data, bytes);
    if (r < 0) {
        exo_printf("the firmware image cannot be placed: %s\n", exo_strerror(r));
        return r;
    }
    uint64_t copy = EXO_MIN(bytes, LOW_COPY);
    r = load_copy("the firmware", LOAD_HIGH - copy, (const char *)firmware->data + bytes - copy,
                  copy, copy);
    *start = (struct vm_start){.real_mode = true};
    return r;
}
