/* SPDX-License-Identifier: MIT
 *
 * The monitor's legacy devices, each driven through its ports as a guest does it: 8254,
 * CMOS clock, keyboard controller, serial port, ACPI's registers.
 */
#include "vmm_host.c"

#define MS 1000000ull
#define SECOND 1000000000ull

static uint8_t in(unsigned port) { return (uint8_t)port_in(port, 1); }
static void out(unsigned port, unsigned value) { port_out(port, 1, value); }

/* ---- 8254 ------------------------------------------------------------------------------- */

static unsigned pit_count(unsigned counter)
{
    out(0x43, counter << 6);
    unsigned low = in(0x40 + counter);
    return low | (unsigned)in(0x40 + counter) << 8;
}

static void test_pit_ticks(void)
{
    pit_init();
    out(0x43, 0x34); /* counter 0, both bytes, mode 2 */
    out(0x40, 11932 & 255), out(0x40, 11932 >> 8); /* 100 Hz */
    host_advance(SECOND);
    EXPECT(host.rises[0] >= 99 && host.rises[0] <= 100);
    EXPECT(!host.line[0]);
    out(0x43, 0x30); /* mode 0: one interrupt */
    host_advance(SECOND);
    unsigned before = host.rises[0];
    out(0x40, 0xff), out(0x40, 0xff);
    host_advance(50 * MS);
    EXPECT(host.rises[0] == before);
    host_advance(10 * MS);
    EXPECT(host.rises[0] == before + 1);
    host_advance(10 * SECOND);
    EXPECT(host.rises[0] == before + 1);
}

static void test_pit_storm(void)
{
    pit_init();
    out(0x43, 0x34), out(0x40, 1), out(0x40, 0); /* 1.2 MHz */
    host_advance(100 * MS);
    EXPECT(host.rises[0] > 0 && host.rises[0] < 10000);
}

static void test_pit_read(void)
{
    pit_init();
    out(0x61, in(0x61) | 1); /* gate of counter 2, as Linux calibrates */
    out(0x43, 0xb0), out(0x42, 0), out(0x42, 0x40);
    unsigned first = pit_count(2);
    host_advance(MS);
    unsigned second = pit_count(2);
    EXPECT(first <= 0x4000 && first - second >= 1192 && first - second <= 1194);
    EXPECT(!(in(0x61) & 0x20));
    host_advance(20 * MS);
    EXPECT(in(0x61) & 0x20);
    out(0x61, in(0x61) & 0xfe);
    unsigned stopped = pit_count(2);
    host_advance(MS);
    EXPECT(pit_count(2) == stopped);
    out(0x43, 0xe8); /* read back counter 2: status only */
    EXPECT((in(0x42) & 0x3f) == 0x30);
    out(0x43, 0x35), out(0x40, 0x00), out(0x40, 0x10); /* BCD: 1000 */
    host_advance(SECOND * 500 / 1193182);
    EXPECT(pit_count(0) == 0x500 || pit_count(0) == 0x501);
}

/* Five hours without a read, and the largest count: nothing overflows. */
static void test_pit_long(void)
{
    pit_init();
    out(0x43, 0x34), out(0x40, 0), out(0x40, 0);
    host_advance(5 * 3600 * SECOND);
    unsigned rises = host.rises[0];
    EXPECT(rises > 327700 && rises < 327800);
    host_advance(SECOND);
    EXPECT(host.rises[0] - rises >= 18 && host.rises[0] - rises <= 19);
}

/* ---- CMOS clock ---------------------------------------------------------------------------- */

static uint8_t cmos(unsigned reg)
{
    out(0x70, reg);
    return in(0x71);
}
static void cmos_set(unsigned reg, unsigned value)
{
    out(0x70, reg);
    out(0x71, value);
}
static bool date_is(unsigned century, unsigned year, unsigned month, unsigned day, unsigned hour,
                    unsigned minute, unsigned second)
{
    return cmos(0x32) == century && cmos(9) == year && cmos(8) == month && cmos(7) == day &&
           cmos(4) == hour && cmos(2) == minute && cmos(0) == second;
}

static void test_cmos_time(void)
{
    cmos_init(512u << 20, 0);
    EXPECT(date_is(0x20, 0x23, 0x11, 0x14, 0x22, 0x13, 0x21)); /* 1 s after vm_wall_clock */
    EXPECT(cmos(6) == 3); /* a Tuesday */
    EXPECT(cmos(13) == 0x80);
    host_advance(2 * 3600 * SECOND);
    EXPECT(date_is(0x20, 0x23, 0x11, 0x15, 0x00, 0x13, 0x21));
    cmos_set(11, 0x04); /* binary, 12 hours */
    EXPECT(cmos(4) == 12 && cmos(9) == 23);
    cmos_set(11, 0x02);
    cmos_set(11, 0x82); /* SET: the time stands while it is written */
    cmos_set(9, 0x24), cmos_set(8, 0x02), cmos_set(7, 0x28);
    cmos_set(4, 0x23), cmos_set(2, 0x59), cmos_set(0, 0x58);
    host_advance(5 * SECOND);
    EXPECT(cmos(0) == 0x58);
    cmos_set(11, 0x02);
    host_advance(2 * SECOND);
    EXPECT(date_is(0x20, 0x24, 0x02, 0x29, 0, 0, 0)); /* a leap day */
    host_advance(86400 * SECOND);
    EXPECT(date_is(0x20, 0x24, 0x03, 0x01, 0, 0, 0));
}

static void test_cmos_interrupts(void)
{
    cmos_init(512u << 20, 0);
    cmos_set(10, 0x26), cmos_set(11, 0x42); /* periodic, 1024 Hz */
    host_advance(2 * MS);
    EXPECT(host.line[8]);
    EXPECT((cmos(12) & 0xc0) == 0xc0);
    EXPECT(!host.line[8]);
    EXPECT(cmos(12) == 0);
    cmos_set(11, 0x12); /* each second */
    cmos(12);
    unsigned before = host.rises[8];
    for (unsigned i = 0; i < 10; i++) {
        host_advance(SECOND);
        EXPECT(cmos(12) & 0x10);
    }
    EXPECT(host.rises[8] == before + 10);
    cmos_set(1, 0xc0), cmos_set(3, 0xc0), cmos_set(5, 0x23); /* at 23 o'clock */
    cmos_set(11, 0x22);
    cmos(12);
    host_advance(40 * 60 * SECOND);
    EXPECT(!host.line[8]);
    host_advance(20 * 60 * SECOND);
    EXPECT(host.line[8] && cmos(12) & 0x20);
}

static void test_cmos_sizes(void)
{
    host.cpus = 4;
    cmos_init(3ull << 30, 5ull << 30);
    EXPECT((cmos(0x15) | cmos(0x16) << 8) == 640);
    EXPECT((cmos(0x30) | cmos(0x31) << 8) == 0xffff);
    EXPECT((cmos(0x34) | cmos(0x35) << 8) == ((3u << 30) - (16u << 20)) >> 16);
    EXPECT((cmos(0x5b) | cmos(0x5c) << 8 | cmos(0x5d) << 16) == (5ull << 30) >> 16);
    EXPECT(cmos(0x5f) == 3);
    cmos_set(0x0f, 0xa), cmos_set(0x32, 0x99), cmos_set(9, 0xff), cmos_set(8, 0xff);
    EXPECT(cmos(0x0f) == 0xa);
}

/* Every date of two centuries comes back as it was set. */
static void test_cmos_calendar(void)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned wrong = 0;
    cmos_init(512u << 20, 0);
    cmos_set(11, 0x06);
    for (unsigned year = 1970; year < 2170; year++)
        for (unsigned month = 1; month <= 12; month++) {
            bool leap = month == 2 && year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            unsigned last = days[month - 1] + leap;
            cmos_set(7, 1), cmos_set(0x32, year / 100), cmos_set(9, year % 100);
            cmos_set(8, month), cmos_set(7, last);
            wrong += !(cmos(0x32) == year / 100 && cmos(9) == year % 100 && cmos(8) == month &&
                       cmos(7) == last);
            host_advance(86400 * SECOND);
            wrong += cmos(7) != 1 || cmos(8) != month % 12 + 1;
        }
    EXPECT(wrong == 0);
}

/* ---- keyboard controller -------------------------------------------------------------------- */

static void test_i8042_start(void)
{
    i8042_init();
    EXPECT(!(in(0x64) & 1));
    out(0x64, 0xaa);
    EXPECT(in(0x64) & 1 && in(0x60) == 0x55 && !(in(0x64) & 1));
    out(0x64, 0xab);
    EXPECT(in(0x60) == 0);
    out(0x64, 0x60), out(0x60, 0x65); /* as SeaBIOS and Linux do it */
    out(0x64, 0x20);
    EXPECT(in(0x60) == 0x65);
    out(0x60, 0xff);
    EXPECT(in(0x60) == 0xfa && in(0x60) == 0xaa);
    out(0x60, 0xf2);
    EXPECT(in(0x60) == 0xfa && in(0x60) == 0xab && in(0x60) == 0x41);
    out(0x60, 0xed), out(0x60, 2);
    EXPECT(in(0x60) == 0xfa && in(0x60) == 0xfa);
    out(0x60, 0x77);
    EXPECT(in(0x60) == 0xfe);
}

static void test_i8042_keys(void)
{
    static const uint8_t expected[] = {0x01, 0x81, 0x2a, 0x1e, 0x9e, 0xaa, 0x1c, 0x9c, 0x03, 0x83};
    i8042_init();
    i8042_type('\033'), i8042_type('A'), i8042_type('\r'), i8042_type('2');
    EXPECT(host.line[1]);
    for (unsigned i = 0; i < sizeof(expected); i++) {
        EXPECT(host.rises[1] == i + 1); /* an edge for each byte */
        EXPECT(in(0x60) == expected[i]);
    }
    EXPECT(!host.line[1] && !(in(0x64) & 1));
    for (unsigned i = 0; i < 1000; i++)
        i8042_type('x'); /* what does not fit is lost, both halves of it */
    unsigned n = 0;
    while (in(0x64) & 1)
        EXPECT(in(0x60) == (n++ % 2 ? 0xad : 0x2d));
    EXPECT(n == 62);
    i8042_ctrl_alt_del();
    EXPECT(in(0x60) == 0x1d && in(0x60) == 0x38 && in(0x60) == 0xe0 && in(0x60) == 0x53);
}

static void test_i8042_reset(void)
{
    i8042_init();
    out(0x64, 0xd1), out(0x60, 0x03);
    out(0x64, 0xff);
    EXPECT(host.resets == 0);
    out(0x64, 0xfe);
    EXPECT(host.resets == 1);
    out(0x64, 0xd1), out(0x60, 0x02);
    EXPECT(host.resets == 2);
}

/* ---- serial port ---------------------------------------------------------------------------- */

#define COM 0x3f8

static void test_uart_send(void)
{
    uart_init(COM, 4);
    for (const char *c = "hello\n"; *c; c++) {
        EXPECT((in(COM + 5) & 0x60) == 0x60);
        out(COM, (uint8_t)*c);
    }
    EXPECT(host.console_bytes == 6 && memcmp(host.console, "hello\n", 6) == 0);
    out(COM, '#'); /* no end of line: a moment later */
    EXPECT(host.console_bytes == 6);
    host_advance(10 * MS);
    EXPECT(host.console_bytes == 7);
    for (unsigned i = 0; i < 1000; i++)
        out(COM, 'x');
    uart_flush();
    EXPECT(host.console_bytes == 1007);
    EXPECT(host.rises[4] == 0);
}

static void test_uart_sent_interrupt(void)
{
    uart_init(COM, 4);
    out(COM + 4, 0x0b);
    out(COM + 1, 2);
    EXPECT(!host.line[4]); /* a moment later */
    host.window = true; /* no handler that could end */
    EXPECT((in(COM + 2) & 0xf) == 2);
    host.window = false;
    out(COM + 1, 0), out(COM + 1, 2);
    EXPECT((in(COM + 2) & 0xf) == 2); /* reading tells it once, and before */
    EXPECT((in(COM + 2) & 0xf) == 1);
    out(COM, 'a');
    EXPECT(host.line[4]);
    EXPECT((in(COM + 2) & 0xf) == 2);
    EXPECT(!host.line[4]);
    out(COM, 'b'); /* by a handler, which will look again */
    EXPECT(!host.line[4] && (in(COM + 2) & 0xf) == 2);
    out(COM, 'c');
    EXPECT(host.console_bytes == 0);
    host.window = true; /* another interrupt waits for it to end */
    EXPECT((in(COM + 2) & 0xf) == 1 && host.line[4]);
    host.window = false;
    out(COM + 1, 0); /* no more to send */
    EXPECT(!host.line[4] && host.console_bytes == 3);
    out(COM + 1, 2);
    host_advance(1 * MS);
    EXPECT(host.line[4]);
    EXPECT((in(COM + 2) & 0xf) == 2);
    out(COM, 'd'); /* by a handler that does not look again */
    EXPECT(!host.line[4]);
    host_advance(10 * MS);
    EXPECT(host.line[4]);
    out(COM + 4, 0x03); /* OUT2 low: no interrupt gets out */
    EXPECT(!host.line[4]);
    out(COM + 4, 0x0b);
    EXPECT(host.line[4]);
    out(COM + 1, 0);
    EXPECT(!host.line[4]);
}

static void test_uart_receive(void)
{
    uart_init(COM, 4);
    out(COM + 2, 0xc1); /* FIFO on, 14 */
    out(COM + 4, 0x0b), out(COM + 1, 1);
    uart_receive("abc", 3);
    EXPECT(host.line[4] && (in(COM + 2) & 0xff) == 0xcc);
    EXPECT(in(COM + 5) & 1 && in(COM) == 'a' && in(COM) == 'b' && host.line[4]);
    EXPECT(in(COM) == 'c' && !host.line[4] && !(in(COM + 5) & 1) && in(COM) == 0);
    char much[5000];
    for (unsigned i = 0; i < sizeof(much); i++)
        much[i] = (char)i;
    size_t room = uart_room();
    uart_receive(much, sizeof(much));
    EXPECT(room > 1000 && uart_room() == 0);
    EXPECT((in(COM + 2) & 0xff) == 0xc4);
    for (unsigned i = 0; i < room; i++)
        EXPECT(in(COM) == (uint8_t)i);
    EXPECT(uart_room() == room && !host.line[4]);
}

/* What Linux's autoconfig looks for. */
static void test_uart_probe(void)
{
    uart_init(COM, 4);
    out(COM + 1, 0x0f);
    EXPECT(in(COM + 1) == 0x0f);
    out(COM + 4, 0x1a);
    EXPECT((in(COM + 6) & 0xf0) == 0x90);
    out(COM, 'L');
    EXPECT(in(COM) == 'L' && host.console_bytes == 0);
    out(COM + 4, 0);
    out(COM + 2, 1);
    EXPECT((in(COM + 2) & 0xc0) == 0xc0);
    out(COM + 3, 0x83), out(COM, 1), out(COM + 1, 2);
    EXPECT(in(COM) == 1 && in(COM + 1) == 2);
    out(COM + 3, 3);
    EXPECT(in(COM + 1) == 0x0f);
    out(COM + 7, 0x5a);
    EXPECT(in(COM + 7) == 0x5a);
    EXPECT(port_in(COM + 6, 4) == (0xffff0000u | 0x5a00u | in(COM + 6)));
}

/* ---- ACPI, debug port, wide accesses ------------------------------------------------------------ */

static void test_acpi(void)
{
    acpi_pm_init();
    uint64_t first = port_in(VM_PM_PORT + 8, 4);
    host_advance(SECOND);
    uint64_t ticks = (port_in(VM_PM_PORT + 8, 4) - first) & 0xffffff;
    EXPECT(ticks >= 3579544 && ticks <= 3579546);
    EXPECT(port_in(VM_PM_PORT + 4, 2) & 1);
    acpi_power_button();
    EXPECT(!host.line[VM_PM_SCI]);
    port_out(VM_PM_PORT + 2, 2, 0x100);
    EXPECT(host.line[VM_PM_SCI] && port_in(VM_PM_PORT, 4) == 0x1000100);
    port_out(VM_PM_PORT, 2, 0x100);
    EXPECT(!host.line[VM_PM_SCI]);
    port_out(VM_PM_PORT + 4, 2, 1 << 10 | 0x2000);
    EXPECT(host.power_offs == 0 && host.notes == 1);
    port_out(VM_PM_PORT + 4, 2, VM_PM_S5 << 10);
    EXPECT(host.power_offs == 0);
    port_out(VM_PM_PORT + 4, 2, VM_PM_S5 << 10 | 0x2000);
    EXPECT(host.power_offs == 1);
}

static void test_debug_port(void)
{
    debug_port_init();
    EXPECT(in(0x402) == 0xe9);
    out(0x402, 'S');
    EXPECT(host.console_bytes == 1 && host.console[0] == 'S');
}

/* All devices together, and every one of them again after a reset of the machine. */
static void test_all_again(void)
{
    for (unsigned i = 0; i < 2; i++) {
        io_reset();
        pit_init(), i8042_init(), acpi_pm_init(), uart_init(COM, 4), debug_port_init();
        cmos_init(512u << 20, 0);
        EXPECT(in(0x64) != 0xff && in(COM + 5) == 0x60 && in(0x402) == 0xe9);
        out(0x43, 0x34), out(0x40, 0), out(0x40, 1);
        out(COM, 'x');
        cmos_set(11, 0x42);
        i8042_type('x');
    }
    host_advance(SECOND);
    EXPECT(host.rises[0] > 1000);
    EXPECT(host.console_bytes == 1);
}

int main(void)
{
    host_test("8254: periodic and single ticks", test_pit_ticks);
    host_test("8254: no storm", test_pit_storm);
    host_test("8254: reading, gate, BCD", test_pit_read);
    host_test("8254: for hours", test_pit_long);
    host_test("CMOS: time read and set", test_cmos_time);
    host_test("CMOS: interrupts", test_cmos_interrupts);
    host_test("CMOS: memory sizes", test_cmos_sizes);
    host_test("CMOS: calendar", test_cmos_calendar);
    host_test("i8042: as drivers start it", test_i8042_start);
    host_test("i8042: keys", test_i8042_keys);
    host_test("i8042: reset", test_i8042_reset);
    host_test("serial port: sending", test_uart_send);
    host_test("serial port: transmitter interrupt", test_uart_sent_interrupt);
    host_test("serial port: receiving", test_uart_receive);
    host_test("serial port: as drivers probe it", test_uart_probe);
    host_test("ACPI: timer, button, power off", test_acpi);
    host_test("debug port", test_debug_port);
    host_test("legacy devices: together, and anew", test_all_again);
    return host_status();
}
