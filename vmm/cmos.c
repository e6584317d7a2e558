/* SPDX-License-Identifier: MIT
 *
 * The CMOS clock (Motorola MC146818A data sheet) and the bytes beside it in which a PC's
 * firmware finds the memory's size. The time of day is the host's plus what the guest has
 * set; the clock runs in universal time. Under the device lock.
 *
 * Interrupt 8: flags in register C, cleared by reading it. Only while one of them is
 * enabled a timer runs: each second for updates and alarms, at the chosen rate for the
 * periodic one.
 */
#include "vmm.h"

#define NS 1000000000ull
#define DAY 86400
#define BYTES 128u
#define PERIOD_LEAST (NS / 1024) /* a guest cannot ask for a storm */

/* Registers: data sheet, "Address Map". */
enum {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY_OF_MONTH,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    CENTURY = 0x32
};
#define A_UPDATING 0x80
#define A_RATE 0x0f
#define B_SET 0x80
#define B_PERIODIC 0x40
#define B_ALARM 0x20
#define B_UPDATE 0x10
#define B_BINARY 0x04
#define B_24_HOURS 0x02
#define C_REQUEST 0x80
#define D_VALID 0x80
#define ANY 0xc0 /* alarm: any value */
#define AFTERNOON 0x80 /* hours of a 12-hour clock */

/* Memory's size, as firmware of PCs and of virtual machines keeps it. */
enum {
    AT_EQUIPMENT = 0x14,
    AT_BASE_KIB = 0x15,
    AT_ABOVE_1M_KIB = 0x17,
    AT_ABOVE_1M_KIB_2 = 0x30,
    AT_ABOVE_16M = 0x34, /* in 64 KiB */
    AT_BOOT_ORDER = 0x3d,
    AT_ABOVE_4G = 0x5b, /* in 64 KiB, 3 bytes */
    AT_MORE_CPUS = 0x5f
};

static uint8_t bytes[BYTES];
static uint8_t selected;
static uint64_t offset; /* nanoseconds that the guest's clock is ahead */
static uint64_t held; /* with SET: the second that the registers show */
static struct vm_timer timer;

/* ---- time of day ------------------------------------------------------------------------ */

static uint64_t clock_ns(void) { return vm_wall_clock() + vm_now() + offset; }

static uint8_t coded(unsigned n)
{
    return (uint8_t)(bytes[REG_B] & B_BINARY ? n : n / 10 << 4 | n % 10);
}

static unsigned decoded(uint8_t code)
{
    return bytes[REG_B] & B_BINARY ? code : (code >> 4) * 10u + (code & 15);
}

static uint8_t hours_coded(unsigned hour)
{
    if (bytes[REG_B] & B_24_HOURS) return coded(hour);
    return coded(hour % 12 ? hour % 12 : 12) | (hour >= 12 ? AFTERNOON : 0);
}

static unsigned hours_decoded(uint8_t code)
{
    if (bytes[REG_B] & B_24_HOURS) return decoded(code);
    return decoded(code & 0x7f) % 12 + (code & AFTERNOON ? 12 : 0);
}

/* Days from 1 March 0000 to a date, and back: years begin in March, so that a leap day is
 * a year's last. */
static uint64_t days_of(unsigned year, unsigned month, unsigned day)
{
    year -= month < 3;
    month = (month + 9) % 12;
    return 365ull * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
}
#define DAYS_1970 719468ull

/* Writes the registers for that second of the epoch. */
static void time_show(uint64_t second)
{
    uint64_t days = second / DAY + DAYS_1970;
    unsigned rest = (unsigned)(second % DAY), year = (unsigned)(days * 400 / 146097);
    if (days_of(year + 1, 3, 1) <= days) year++;
    if (days_of(year, 3, 1) > days) year--;
    unsigned in_year = (unsigned)(days - days_of(year, 3, 1));
    unsigned month = (5 * in_year + 2) / 153;
    bytes[DAY_OF_MONTH] = coded(in_year - (153 * month + 2) / 5 + 1);
    month = month < 10 ? month + 3 : month - 9;
    year += month < 3;
    bytes[SECONDS] = coded(rest % 60);
    bytes[MINUTES] = coded(rest / 60 % 60);
    bytes[HOURS] = hours_coded(rest / 3600);
    bytes[WEEKDAY] = coded((unsigned)((second / DAY + 4) % 7 + 1));
    bytes[MONTH] = coded(month);
    bytes[YEAR] = coded(year % 100);
    bytes[CENTURY] = coded(year / 100);
}

/* The second that the registers say; nonsense gives some second. */
static uint64_t time_told(void)
{
    unsigned year = decoded(bytes[CENTURY]) * 100 + decoded(bytes[YEAR]);
    unsigned month = decoded(bytes[MONTH]), day = decoded(bytes[DAY_OF_MONTH]);
    if (year < 1970 || year > 9999) year = 1970;
    if (month < 1 || month > 12) month = 1;
    if (day < 1 || day > 31) day = 1;
    return (days_of(year, month, day) - DAYS_1970) * DAY + hours_decoded(bytes[HOURS]) * 3600 +
           decoded(bytes[MINUTES]) * 60 + decoded(bytes[SECONDS]);
}

static void time_update(void) { time_show(bytes[REG_B] & B_SET ? held : clock_ns() / NS); }

/* A register of the time was written: the clock goes on from there. */
static void time_set(void)
{
    held = time_told();
    offset += held * NS - clock_ns() / NS * NS;
}

/* ---- interrupts ---------------------------------------------------------------------------- */

static void line_update(void)
{
    bool request = bytes[REG_C] & bytes[REG_B] & (B_PERIODIC | B_ALARM | B_UPDATE);
    bytes[REG_C] = (uint8_t)((bytes[REG_C] & ~C_REQUEST) | (request ? C_REQUEST : 0));
    irq_set(8, request);
}

/* Nanoseconds of the periodic interrupt: data sheet, table 5; 0 none. */
static uint64_t period(void)
{
    unsigned rate = bytes[REG_A] & A_RATE;
    if (!(bytes[REG_B] & B_PERIODIC) || !rate) return 0;
    if (rate < 3) rate += 7; /* 1 and 2 are 256 and 128 Hz */
    uint64_t every = (NS << (rate - 1)) / 32768;
    return every < PERIOD_LEAST ? PERIOD_LEAST : every;
}

static void timer_set(void)
{
    uint64_t every = period(), now = vm_now();
    if (every)
        timer_arm(&timer, now + every);
    else if (bytes[REG_B] & (B_ALARM | B_UPDATE))
        timer_arm(&timer, now + NS - clock_ns() % NS);
    else
        timer_cancel(&timer);
}

static bool alarm_matches(void)
{
    static const uint8_t fields[] = {SECONDS, MINUTES, HOURS};
    time_update();
    for (unsigned i = 0; i < sizeof(fields); i++) {
        uint8_t alarm = bytes[fields[i] + 1];
        if ((alarm & ANY) != ANY && alarm != bytes[fields[i]]) return false;
    }
    return true;
}

static void timer_fire(void *argument)
{
    static uint64_t last; /* second that was seen */
    (void)argument;
    if (period()) bytes[REG_C] |= B_PERIODIC;
    uint64_t second = clock_ns() / NS;
    if (second != last && !(bytes[REG_B] & B_SET)) {
        last = second;
        bytes[REG_C] |= B_UPDATE;
        if (alarm_matches()) bytes[REG_C] |= B_ALARM;
    }
    line_update();
    timer_set();
}

/* ---- ports -------------------------------------------------------------------------------------- */

static bool is_time(unsigned reg)
{
    return reg <= YEAR ? reg > HOURS_ALARM || reg % 2 == 0 : reg == CENTURY;
}

static uint64_t cmos_read(void *device, uint64_t at, unsigned size)
{
    (void)device, (void)size;
    if (at == 0) return 0xff; /* the index cannot be read */
    if (is_time(selected)) time_update();
    uint8_t value = bytes[selected];
    if (selected == REG_C) {
        bytes[REG_C] = 0;
        line_update();
    }
    return value;
}

static void control_write(uint8_t value)
{
    uint8_t change = value ^ bytes[REG_B];
    if (change & value & B_SET)
        held = clock_ns() / NS;
    else if (change & B_SET)
        offset += held * NS - clock_ns(); /* goes on from there */
    bytes[REG_B] = value;
    line_update();
    timer_set();
}

static void cmos_write(void *device, uint64_t at, unsigned size, uint64_t wide)
{
    uint8_t value = (uint8_t)wide;
    (void)device, (void)size;
    if (at == 0) {
        selected = value & 0x7f; /* the highest bit masks NMIs: there are none */
    } else if (selected == REG_A) {
        bytes[REG_A] = value & (uint8_t)~A_UPDATING;
        timer_set();
    } else if (selected == REG_B) {
        control_write(value);
    } else if (is_time(selected)) {
        time_update();
        bytes[selected] = value;
        time_set();
    } else if (selected != REG_C && selected != REG_D) {
        bytes[selected] = value;
    }
}

/* ---- start -------------------------------------------------------------------------------------- */

static void put_size(unsigned at, uint64_t units, unsigned n)
{
    for (unsigned i = 0; i < n; i++, units >>= 8)
        bytes[at + i] = (uint8_t)units;
}

void cmos_init(uint64_t ram_low, uint64_t ram_high)
{
    uint64_t above_1m = ram_low > 1ull << 20 ? (ram_low - (1ull << 20)) / 1024 : 0;
    uint64_t above_16m = ram_low > 16ull << 20 ? (ram_low - (16ull << 20)) / 65536 : 0;
    memset(bytes, 0, sizeof(bytes));
    offset = 0;
    selected = 0;
    bytes[REG_A] = 0x26; /* 32768 Hz, 1024 interrupts a second */
    bytes[REG_B] = B_24_HOURS;
    bytes[REG_D] = D_VALID;
    bytes[AT_EQUIPMENT] = 0x04; /* a pointing device; no disk drives */
    bytes[AT_BOOT_ORDER] = 0x02; /* disks first */
    bytes[AT_MORE_CPUS] = (uint8_t)(vm_cpus() - 1);
    put_size(AT_BASE_KIB, 640, 2);
    put_size(AT_ABOVE_1M_KIB, EXO_MIN(above_1m, 0xffffull), 2);
    put_size(AT_ABOVE_1M_KIB_2, EXO_MIN(above_1m, 0xffffull), 2);
    put_size(AT_ABOVE_16M, EXO_MIN(above_16m, 0xffffull), 2);
    put_size(AT_ABOVE_4G, ram_high / 65536, 3);
    timer_cancel(&timer);
    timer = (struct vm_timer){.fire = timer_fire};
    port_bytes_add(0x70, 2, NULL, cmos_read, cmos_write);
}
