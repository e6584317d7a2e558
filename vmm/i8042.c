/* SPDX-License-Identifier: MIT
 *
 * The keyboard controller (IBM PS/2 Technical Reference, keyboard and auxiliary device
 * controller) with a keyboard and no mouse, and the reset line behind it. Its keys are in
 * scan code set 1, what a controller that translates gives. Under the device lock.
 *
 * `queue` holds the bytes that the guest will read from port 0x60; what does not fit is
 * lost. Interrupt 1 is asserted while there is one and the command byte allows it.
 */
#include "vmm.h"

#define QUEUE 64u

/* Status, port 0x64. */
#define STATUS_FULL 0x01
#define STATUS_SYSTEM 0x04
#define STATUS_COMMAND 0x08
#define STATUS_UNLOCKED 0x10

/* The command byte. */
#define CONTROL_INTERRUPT 0x01
#define CONTROL_SYSTEM 0x04
#define CONTROL_DISABLED 0x10
#define CONTROL_TRANSLATE 0x40

#define OUTPUT_RESET 0x01 /* output port: low resets */
#define OUTPUT_A20 0x02
#define OUTPUT_INTERRUPT 0x10

#define KEY_ACK 0xfa
#define KEY_AGAIN 0xfe

#define SCAN_SHIFT 0x2a
#define SCAN_CTRL 0x1d
#define SCAN_ALT 0x38
#define SCAN_UP 0x80

static uint8_t queue[QUEUE];
static unsigned first, count;
static uint8_t control, command; /* command: controller's, whose data comes next */
static uint8_t key_command; /* keyboard's, whose data comes next */
static bool last_command, line;

/* Each interrupt is one edge, so that one that is masked or missed is followed by another. */
static void update(void)
{
    bool wanted = count && control & CONTROL_INTERRUPT;
    if (line == wanted) return;
    line = wanted;
    irq_set(1, line);
}

static void put(uint8_t byte)
{
    if (count == QUEUE) return;
    queue[(first + count++) % QUEUE] = byte;
    update();
}

static uint8_t get(void)
{
    if (!count) return 0;
    uint8_t byte = queue[first];
    first = (first + 1) % QUEUE;
    count--;
    if (line) { /* down, and up again for the next byte */
        line = false;
        irq_set(1, false);
    }
    update();
    return byte;
}

/* ---- the keyboard ------------------------------------------------------------------------ */

static void put_id(uint8_t plain, uint8_t translated)
{
    put(control & CONTROL_TRANSLATE ? translated : plain);
}

static void key_data(uint8_t value)
{
    bool asks_set = key_command == 0xf0 && value == 0;
    key_command = 0;
    put(KEY_ACK);
    if (asks_set) put_id(0x02, 0x41);
}

static void key_write(uint8_t value)
{
    if (key_command) {
        key_data(value);
        return;
    }
    switch (value) {
    case 0xed: /* lights */
    case 0xf0: /* scan code set */
    case 0xf3: /* repetition */
        key_command = value;
        put(KEY_ACK);
        break;
    case 0xee: /* echo */
        put(0xee);
        break;
    case 0xf2: /* identify */
        put(KEY_ACK);
        put(0xab);
        put_id(0x83, 0x41);
        break;
    case 0xf4: /* enable, disable, defaults */
    case 0xf5:
    case 0xf6:
        put(KEY_ACK);
        break;
    case 0xff: /* reset, and its self-test passed */
        put(KEY_ACK);
        put(0xaa);
        break;
    default:
        put(KEY_AGAIN);
    }
}

/* Down and up, with shift if need be. */
static void key_stroke(uint8_t scan, bool shift)
{
    if (count + 4 > QUEUE || control & CONTROL_DISABLED) return;
    if (shift) put(SCAN_SHIFT);
    put(scan);
    put(scan | SCAN_UP);
    if (shift) put(SCAN_SHIFT | SCAN_UP);
}

void i8042_type(char c)
{
    static const struct {
        uint8_t scan;
        bool shift;
        const char *keys;
    } rows[] = {
        {0x01, false, "\033"},         {0x02, false, "1234567890-=\b\t"},
        {0x02, true, "!@#$%^&*()_+"},  {0x10, false, "qwertyuiop[]\n"},
        {0x10, true, "QWERTYUIOP{}"},  {0x1e, false, "asdfghjkl;'`"},
        {0x1e, true, "ASDFGHJKL:\"~"}, {0x2b, false, "\\zxcvbnm,./"},
        {0x2b, true, "|ZXCVBNM<>?"},   {0x39, false, " "},
    };
    if (c == '\r') c = '\n';
    if (c == 0x7f) c = '\b';
    for (unsigned row = 0; row < EXO_COUNT(rows); row++)
        for (unsigned i = 0; rows[row].keys[i]; i++)
            if (rows[row].keys[i] == c) {
                key_stroke((uint8_t)(rows[row].scan + i), rows[row].shift);
                return;
            }
}

void i8042_ctrl_alt_del(void)
{
    static const uint8_t scans[] = {
        SCAN_CTRL,          SCAN_ALT,           0xe0, 0x53, 0xe0, 0x53 | SCAN_UP,
        SCAN_ALT | SCAN_UP, SCAN_CTRL | SCAN_UP};
    for (unsigned i = 0; i < sizeof(scans); i++)
        put(scans[i]);
}

/* ---- the controller --------------------------------------------------------------------------- */

static void command_write(uint8_t value)
{
    last_command = true;
    command = 0;
    switch (value) {
    case 0x20: /* command byte */
        put(control);
        break;
    case 0x60: /* these take a byte of data */
    case 0xd1:
    case 0xd2:
    case 0xd3:
    case 0xd4:
        command = value;
        break;
    case 0xa9: /* test of the mouse's connector: clock stuck, nobody there */
        put(0x01);
        break;
    case 0xaa: /* self-test */
        control |= CONTROL_SYSTEM;
        put(0x55);
        break;
    case 0xab: /* test of the keyboard's connector */
        put(0x00);
        break;
    case 0xad:
        control |= CONTROL_DISABLED;
        break;
    case 0xae:
        control &= (uint8_t)~CONTROL_DISABLED;
        break;
    case 0xd0: /* output port */
        put(OUTPUT_RESET | OUTPUT_A20 | (line ? OUTPUT_INTERRUPT : 0));
        break;
    default: /* 0xf0..0xff pulse lines of the output port low */
        if (value >= 0xf0 && !(value & OUTPUT_RESET)) vm_reset();
    }
}

static void data_write(uint8_t value)
{
    uint8_t before = command;
    last_command = false;
    command = 0;
    switch (before) {
    case 0x60:
        control = value;
        update();
        break;
    case 0xd1: /* output port; address line 20 is always there */
        if (!(value & OUTPUT_RESET)) vm_reset();
        break;
    case 0xd2: /* as if from the keyboard; from the mouse: there is none */
    case 0xd3:
        put(value);
        break;
    case 0xd4:
        break;
    default:
        control &= (uint8_t)~CONTROL_DISABLED;
        key_write(value);
    }
}

static uint64_t data_port_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    return get();
}

static void data_port_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)offset, (void)size;
    data_write((uint8_t)value);
}

static uint64_t status_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)offset, (void)size;
    return STATUS_UNLOCKED | (count ? STATUS_FULL : 0) | (last_command ? STATUS_COMMAND : 0) |
           (control & CONTROL_SYSTEM ? STATUS_SYSTEM : 0);
}

static void command_port_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    (void)device, (void)offset, (void)size;
    command_write((uint8_t)value);
}

void i8042_init(void)
{
    first = count = 0;
    command = key_command = 0;
    last_command = line = false;
    control = CONTROL_TRANSLATE | CONTROL_SYSTEM | CONTROL_INTERRUPT;
    port_bytes_add(0x60, 1, NULL, data_port_read, data_port_write);
    port_bytes_add(0x64, 1, NULL, status_read, command_port_write);
}
