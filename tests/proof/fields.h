/* SPDX-License-Identifier: MIT
 *
 * The fields of a frame word.
 */
#ifndef FIELDS_H
#define FIELDS_H
#include <stdint.h>

#include "bits.h"

/*@ assigns \nothing;
    ensures \result == w_type(w) && 0 <= \result <= 15; */
unsigned word_type_of(uint64_t w);
/*@ assigns \nothing;
    ensures \result == w_bindings(w); */
uint32_t word_bindings_of(uint64_t w);
#endif
