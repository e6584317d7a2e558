/* SPDX-License-Identifier: MIT
 *
 * The macros of abi/exo.h for a frame word's fields, as functions to prove.
 */
#include "../../abi/exo.h"
#include "fields.h"

unsigned word_type_of(uint64_t w) { return EXO_FW_TYPE(w); }

uint32_t word_bindings_of(uint64_t w) { return EXO_FW_BINDINGS(w); }
