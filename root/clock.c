/* SPDX-License-Identifier: MIT
 *
 * The battery-backed clock: Motorola MC146818A data sheet, "Address map". Read twice until both
 * readings agree, so that none is taken in the middle of a change. It has no century: years are
 * 1970 to 2069. */
#include "root.h"

#define PORT_INDEX 0x70
#define PORT_DATA 0x71
#define REG_A 10
#define A_UPDATE 0x80 /* the registers are about to change */
#define REG_B 11
#define B_BINARY 4 /* else two decimal digits */
#define B_24_HOURS 2 /* else bit 7 of the hours means p.m. */
#define TRIES 100000

static const uint8_t registers[6] = {0, 2, 4, 7, 8, 9}; /* second .. hour, day, month, year */

static long cmos(uint32_t ports, unsigned index)
{
    if (exo_port_out(ports, PORT_INDEX, 1, index) < 0) return -1;
    return exo_port_in(ports, PORT_DATA, 1);
}

static bool fields_read(uint32_t ports, uint8_t field[6])
{
    for (int i = 0; i < TRIES; i++) {
        long a = cmos(ports, REG_A);
        if (a < 0) return false;
        if (a & A_UPDATE) continue;
        uint8_t again[6];
        for (unsigned k = 0; k < 6; k++)
            field[k] = (uint8_t)cmos(ports, registers[k]);
        for (unsigned k = 0; k < 6; k++)
            again[k] = (uint8_t)cmos(ports, registers[k]);
        if (!memcmp(field, again, sizeof(again))) return true;
    }
    return false;
}

/* Days from 1970 to a date of the Gregorian calendar. */
static uint64_t days(uint64_t year, unsigned month, unsigned day)
{
    static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    uint64_t past = year - 1;
    uint64_t leaps = past / 4 - past / 100 + past / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return (year - 1970) * 365 + leaps + before[month - 1] + (leap && month > 2) + day - 1;
}

uint64_t clock_read(uint32_t ports)
{
    uint8_t f[6];
    if (!fields_read(ports, f)) return 0;
    long b = cmos(ports, REG_B);
    bool afternoon = !(b & B_24_HOURS) && f[2] & 0x80;
    if (!(b & B_24_HOURS)) f[2] &= 0x7f;
    for (unsigned k = 0; k < 6 && !(b & B_BINARY); k++)
        f[k] = (uint8_t)((f[k] >> 4) * 10 + (f[k] & 15));
    if (!(b & B_24_HOURS)) f[2] = (uint8_t)(f[2] % 12 + (afternoon ? 12 : 0));
    if (f[0] > 59 || f[1] > 59 || f[2] > 23 || !f[3] || f[3] > 31 || !f[4] || f[4] > 12 ||
        f[5] > 99)
        return 0;
    uint64_t year = (f[5] < 70 ? 2000ul : 1900ul) + f[5];
    return ((days(year, f[4], f[3]) * 24 + f[2]) * 60 + f[1]) * 60 + f[0];
}
