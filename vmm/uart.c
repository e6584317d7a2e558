/* SPDX-License-Identifier: MIT
 *
 * A 16550A serial port (National PC16550D data sheet). Sending takes no time: a character
 * goes into a buffer of ours, which is handed on when a line ends, when it is full, and a
 * moment after its first character. What is received waits in a ring longer than the
 * FIFO, whose fill the guest sees as data that keeps coming. Under the device lock.
 *
 * "Sent" can be read at once, but its interrupt is held back (`held`, ended by the timer)
 * - when the driver enables it: what it writes next goes out with the same interrupt, as it
 *   would where a transmitter is still busy
 * - when a handler was told "sent" and sends on: it looks for more causes before it ends,
 *   and finds "sent" again, so no interrupt waits for one that is being handled.
 * A driver that disables it has no more to send: the buffer is handed on.
 */
#include "vmm.h"

#define SEND 128u
#define RECEIVE 4096u /* a power of two */
#define SEND_DELAY 2000000 /* nanoseconds */
#define SENT_DELAY 100000 /* the same, of the interrupt: about a character at 115,200 baud */

/* Registers: data sheet, table II. */
enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCRATCH, REGISTERS };
#define FCR IIR
#define IER_DATA 0x01
#define IER_SENT 0x02
#define IIR_NONE 0x01
#define IIR_SENT 0x02
#define IIR_DATA 0x04
#define IIR_TIMEOUT 0x0c
#define IIR_FIFO 0xc0
#define FCR_ENABLE 0x01
#define FCR_CLEAR 0x02
#define LCR_DIVISOR 0x80
#define MCR_OUT2 0x08 /* on a PC: lets the interrupt out */
#define MCR_LOOP 0x10
#define MCR_BITS 0x1f
#define LSR_DATA 0x01
#define LSR_SENT 0x60 /* holding and shift register empty */
#define MSR_CONNECTED 0xb0 /* CTS, DSR, DCD */

static struct {
    uint8_t ier, fcr, lcr, mcr, scratch;
    uint16_t divisor;
    bool sent; /* the "transmitter empty" interrupt is pending */
    bool held; /* but does not raise the line yet */
    bool told; /* it was read since it was enabled: a handler goes on */
    bool line;
    unsigned irq;
    uint8_t send[SEND];
    unsigned sending;
    uint8_t receive[RECEIVE];
    unsigned first, count;
    struct vm_timer timer;
} uart;

/* ---- interrupt ------------------------------------------------------------------------- */

static unsigned trigger(void)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return uart.fcr & FCR_ENABLE ? levels[uart.fcr >> 6] : 1;
}

static uint8_t cause(void)
{
    if (uart.count && uart.ier & IER_DATA) return uart.count >= trigger() ? IIR_DATA : IIR_TIMEOUT;
    return uart.sent && uart.ier & IER_SENT ? IIR_SENT : IIR_NONE;
}

static void update(void)
{
    uint8_t now = cause();
    bool wanted = uart.mcr & MCR_OUT2 && !(uart.mcr & MCR_LOOP) && now != IIR_NONE &&
                  !(now == IIR_SENT && uart.held);
    if (wanted == uart.line) return;
    uart.line = wanted;
    irq_set(uart.irq, wanted);
}

/* ---- sending and receiving ---------------------------------------------------------------- */

void uart_flush(void)
{
    if (uart.timer.at && !uart.held) timer_cancel(&uart.timer);
    if (uart.sending) console_write(uart.send, uart.sending);
    uart.sending = 0;
}

static void timer_fire(void *argument)
{
    (void)argument;
    uart.held = false;
    uart_flush();
    update();
}

size_t uart_room(void) { return RECEIVE - uart.count; }

void uart_receive(const void *data, size_t n)
{
    const uint8_t *from = data;
    for (size_t i = 0; i < n && uart.count < RECEIVE; i++)
        uart.receive[(uart.first + uart.count++) % RECEIVE] = from[i];
    update();
}

static void character_send(uint8_t c)
{
    uart.sent = true;
    if (uart.mcr & MCR_LOOP) {
        uart_receive(&c, 1);
        return;
    }
    if (!uart.timer.at) timer_arm(&uart.timer, vm_now() + SEND_DELAY);
    uart.send[uart.sending++] = c;
    if (c == '\n' || uart.sending == SEND) uart_flush();
    if (uart.ier & IER_SENT && !uart.held) update();
}

static uint8_t character_receive(void)
{
    if (!uart.count) return 0;
    uint8_t c = uart.receive[uart.first];
    uart.first = (uart.first + 1) % RECEIVE;
    uart.count--;
    update();
    return c;
}

/* ---- registers ------------------------------------------------------------------------------ */

static uint8_t cause_read(void)
{
    uint8_t now = cause();
    /* A handler that would go on ends where another interrupt waits for that. */
    if (now == IIR_SENT && uart.held && uart.told && vcpu_window_wanted()) now = IIR_NONE;
    uart.held = uart.told = now == IIR_SENT;
    if (now == IIR_SENT) uart.sent = false; /* reading tells it: cleared */
    update();
    return now | (uart.fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

/* In loop-back the modem's inputs are the outputs: data sheet, 8.6. */
static uint8_t modem_read(void)
{
    if (!(uart.mcr & MCR_LOOP)) return MSR_CONNECTED;
    return (uint8_t)((uart.mcr & 2) << 3 | (uart.mcr & 1) << 5 | (uart.mcr & 12) << 4);
}

static uint64_t uart_read(void *device, uint64_t offset, unsigned size)
{
    (void)device, (void)size;
    bool divisor = uart.lcr & LCR_DIVISOR;
    switch (offset) {
    case DATA:
        return divisor ? uart.divisor & 0xff : character_receive();
    case IER:
        return divisor ? uart.divisor >> 8 : uart.ier;
    case IIR:
        return cause_read();
    case LCR:
        return uart.lcr;
    case MCR:
        return uart.mcr;
    case LSR:
        return LSR_SENT | (uart.count ? LSR_DATA : 0);
    case MSR:
        return modem_read();
    default:
        return uart.scratch;
    }
}

static void enable_write(uint8_t value)
{
    bool newly = value & ~uart.ier & IER_SENT;
    uart.ier = value & 0x0f;
    if (newly) { /* the transmitter is empty */
        uint64_t at = vm_now() + SENT_DELAY;
        if (!uart.timer.at || uart.timer.at > at) timer_arm(&uart.timer, at);
        uart.sent = uart.held = true;
        uart.told = false;
    } else if (!(value & IER_SENT)) {
        uart.held = false;
        uart_flush();
    }
    update();
}

static void fifo_write(uint8_t value)
{
    /* Turning the FIFO on or off empties it; so does the bit for that. */
    if ((value ^ uart.fcr) & FCR_ENABLE || (value & FCR_ENABLE && value & FCR_CLEAR))
        uart.count = 0;
    uart.fcr = value & FCR_ENABLE ? value : 0;
    update();
}

static void uart_write(void *device, uint64_t offset, unsigned size, uint64_t wide)
{
    uint8_t value = (uint8_t)wide;
    bool divisor = uart.lcr & LCR_DIVISOR;
    (void)device, (void)size;
    switch (offset) {
    case DATA:
        if (divisor)
            uart.divisor = (uart.divisor & 0xff00) | value;
        else
            character_send(value);
        break;
    case IER:
        if (divisor)
            uart.divisor = (uint16_t)((uart.divisor & 0xff) | value << 8);
        else
            enable_write(value);
        break;
    case FCR:
        fifo_write(value);
        break;
    case LCR:
        uart.lcr = value;
        break;
    case MCR:
        uart.mcr = value & MCR_BITS;
        update();
        break;
    case SCRATCH:
        uart.scratch = value;
        break;
    }
}

void uart_init(unsigned port, unsigned irq)
{
    timer_cancel(&uart.timer);
    memset(&uart, 0, sizeof(uart));
    uart.irq = irq;
    uart.divisor = 1;
    uart.timer = (struct vm_timer){.fire = timer_fire};
    port_bytes_add(port, REGISTERS, NULL, uart_read, uart_write);
}
