#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes everything that follows from the list of system calls.

    calls.py abi/calls.list OUTDIR REFERENCE.md

OUTDIR receives
    exo_calls.h    numbers, EXO_CALL_COUNT (C and assembler)
    exo_errors.h   EXO_ERROR(name, number, text) lines, from abi/exo.h
    exo_stubs.h    user stubs: static inline long exo_NAME(...)
    call_table.h   CALL_LEAF(name, nargs), CALL_FULL(name) in order
    call_names.h   the names, for traces
    call_grammar.h argument types of each call, for fuzzers
The format of the list is described at its own top. A malformed list is refused
with its line number, and nothing is written.
"""
import os
import re
import sys

CLASSES = ("fast", "leaf", "full")
TYPES = ("sel env ref va pages frame rights count tsc mask level cpu slot irq port "
         "size word flags").split()
REGISTERS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
GENERIC_TYPES = {"sel", "env", "ref"}
# These use registers beyond the six arguments: their stubs are in lib/exo/entry.S.
BY_HAND = {"call_x", "reply_wait_x"}
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class ListError(Exception):
    """Something wrong in an input file, with its line."""


class Call:
    def __init__(self, name, kind, line):
        self.name, self.kind, self.line = name, kind, line
        self.args, self.ret, self.errs, self.doc = [], [], [], []


def read_errors(path):
    """The errors of abi/exo.h: name -> (number, text)."""
    errors = {}
    form = re.compile(r"#define EXO_E_([A-Z]+) (\d+)\s+/\* (.*?) \*/")
    with open(path, encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            if not line.startswith("#define EXO_E_"):
                continue
            match = form.match(line)
            if not match:
                raise ListError(f"{path}:{number}: an error needs a number and a comment")
            errors[match[1]] = (int(match[2]), match[3])
    return errors


def read_line(call, word, rest, errors):
    """Adds one line of a block to its call; returns what is wrong, or None."""
    if word == "arg":
        parts = rest.split()
        if len(parts) != 2 or not NAME.match(parts[0]):
            return "want: arg NAME TYPE"
        if parts[1] not in TYPES:
            return f"unknown type '{parts[1]}'"
        if parts[0] in [a[0] for a in call.args]:
            return f"argument '{parts[0]}' twice"
        if len(call.args) == len(REGISTERS):
            return "more than six arguments"
        call.args.append(tuple(parts))
    elif word == "err":
        name, _, text = rest.partition(" ")
        if name not in errors:
            return f"no EXO_E_{name} in exo.h"
        if name in [e[0] for e in call.errs]:
            return f"error {name} twice"
        call.errs.append((name, text.strip()))
    elif word in ("ret", "doc"):
        if not rest:
            return f"{word} without text"
        getattr(call, word).append(rest)
    else:
        return f"unknown word '{word}'"
    return None


def read_list(path, errors):
    calls = []
    with open(path, encoding="ascii") as file:
        for number, line in enumerate(file, 1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            word, _, rest = line.partition(" ")
            rest = rest.strip()
            wrong = None
            if word == "call":
                parts = rest.split()
                if len(parts) != 2 or not NAME.match(parts[0]) or parts[1] not in CLASSES:
                    wrong = "want: call NAME fast|leaf|full"
                elif parts[0] in [c.name for c in calls]:
                    wrong = f"call '{parts[0]}' twice"
                else:
                    calls.append(Call(parts[0], parts[1], number))
            elif not calls:
                wrong = f"'{word}' before the first call"
            else:
                wrong = read_line(calls[-1], word, rest, errors)
            if wrong:
                raise ListError(f"{path}:{number}: {wrong}")
    for call in calls:
        if not call.doc:
            raise ListError(f"{path}:{call.line}: call '{call.name}' has no doc")
    if not calls:
        raise ListError(f"{path}:1: no calls")
    return calls


def head(what):
    return ("/* SPDX-License-Identifier: MIT\n *\n"
            f" * {what}. Made by tools/calls.py from abi/calls.list.\n */\n")


def make_numbers(calls, _):
    out = head("Numbers of the system calls") + "#ifndef EXO_CALLS_H\n#define EXO_CALLS_H\n"
    for index, call in enumerate(calls):
        out += f"#define EXO_CALL_{call.name} (EXO_CALL_BASE + {index})\n"
    return out + f"#define EXO_CALL_COUNT {len(calls)}\n#endif\n"


def make_errors(_, errors):
    out = head("Errors: EXO_ERROR(name, number, text)")
    for name, (number, text) in errors.items():
        text = text.replace('"', '\\"')
        out += f'EXO_ERROR({name}, {number}, "{text}")\n'
    return out


def make_stub(call):
    """One stub. Leaf calls scrub all argument registers, full ones keep them."""
    names = [a[0] for a in call.args]
    params = ", ".join(f"uint64_t {n}" for n in names) or "void"
    out = f"static inline long exo_{call.name}({params})\n{{\n    long rax_;\n"
    for name, reg in zip(names, REGISTERS):
        out += f'    register uint64_t {reg}_ __asm__("{reg}") = {name};\n'
    used = [f"{r}_" for r in REGISTERS[:len(names)]]
    number = f'"0"((long)EXO_CALL_{call.name})'
    if call.kind == "leaf":
        outputs = ", ".join(['"=a"(rax_)'] + [f'"+r"({u})' for u in used])
        inputs = number
        spoilt = list(REGISTERS[len(names):]) + ["rcx", "r11", "memory"]
    else:
        outputs = '"=a"(rax_)'
        inputs = ", ".join([number] + [f'"r"({u})' for u in used])
        spoilt = ["rcx", "r11", "memory"]
    clobbers = ", ".join(f'"{s}"' for s in spoilt)
    out += f'    __asm__ volatile("syscall"\n                     : {outputs}\n'
    out += f"                     : {inputs}\n                     : {clobbers});\n"
    return out + "    return rax_;\n}\n"


def make_stubs(calls, _):
    out = head("User stubs of the system calls") + "#ifndef EXO_STUBS_H\n#define EXO_STUBS_H\n"
    out += '#include <stdint.h>\n#include "exo_calls.h"\n\n'
    for call in calls:
        if call.kind != "fast" and call.name not in BY_HAND:
            out += make_stub(call) + "\n"
    return out + "#endif\n"


def make_table(calls, _):
    out = head("The kernel's table, in the order of the numbers")
    for call in calls:
        count = f", {len(call.args)}" if call.kind == "leaf" else ""
        kind = "LEAF" if call.kind == "leaf" else "FULL"  # a fast path is beside its function
        out += f"CALL_{kind}({call.name}{count})\n"
    return out


def make_names(calls, _):
    out = head("Names of the system calls") + "static const char *const call_names[] = {\n"
    return out + "".join(f'    "{c.name}",\n' for c in calls) + "};\n"


def make_grammar(calls, _):
    out = head("Argument types of the system calls, for fuzzers")
    out += "#ifndef CALL_GRAMMAR_H\n#define CALL_GRAMMAR_H\n"
    for kind, names in (("grammar_type", TYPES), ("grammar_class", CLASSES)):
        out += f"enum {kind} {{\n"
        out += "".join(f"    GRAMMAR_{n.upper()},\n" for n in names) + "};\n"
    out += ("struct grammar_call {\n    const char *name;\n    unsigned char class;\n"
            "    unsigned char nargs;\n    unsigned char arg[6];\n};\n"
            "static const struct grammar_call grammar_calls[] = {\n")
    for call in calls:
        types = ", ".join(f"GRAMMAR_{a[1].upper()}" for a in call.args) or "0"
        out += (f'    {{"{call.name}", GRAMMAR_{call.kind.upper()}, {len(call.args)}, '
                f"{{{types}}}}},\n")
    return out + "};\n#endif\n"


def reference_call(index, call, errors):
    out = f"\n### {call.name}\n\nNumber `EXO_CALL_BASE + {index}`, class {call.kind}.\n\n"
    out += " ".join(call.doc) + "\n\n"
    if call.args:
        out += "| register | argument | type |\n|---|---|---|\n"
        for (name, kind), reg in zip(call.args, REGISTERS):
            out += f"| {reg} | {name} | {kind} |\n"
        out += "\n"
    out += f"Returns {' '.join(call.ret) or '0'}.\n"
    listed = {e[0] for e in call.errs}
    rows = list(call.errs)
    if GENERIC_TYPES & {a[1] for a in call.args}:
        rows += [(n, errors[n][1]) for n in ("SEL", "KIND", "RIGHTS") if n not in listed]
    if rows:
        out += "\n| error | when |\n|---|---|\n"
        for name, text in rows:
            out += f"| `-EXO_E_{name}` | {text or errors[name][1]} |\n"
    return out


def make_reference(calls, errors):
    out = ("<!-- SPDX-License-Identifier: MIT -->\n# System calls\n\n"
           "Made by `tools/calls.py` from `abi/calls.list`; do not edit.\n\n"
           "The call's number is in rax, its arguments are in rdi, rsi, rdx, r10, r8, r9; "
           "the instruction is `syscall`. The result is in rax: a value >= 0 or the negative "
           "of an error. rcx and r11 are lost. A *leaf* call also loses its argument "
           "registers; a *full* call keeps every other register; a *fast* call has rules of "
           "its own, given below. Any other value of rax is reflected to the thread's upcall "
           "handler.\n\n## Errors\n\n| number | name | meaning |\n|---|---|---|\n")
    for name, (number, text) in errors.items():
        out += f"| {number} | `EXO_E_{name}` | {text} |\n"
    out += "\n## Calls\n"
    return out + "".join(reference_call(i, c, errors) for i, c in enumerate(calls))


OUTPUTS = {
    "exo_calls.h": make_numbers,
    "exo_errors.h": make_errors,
    "exo_stubs.h": make_stubs,
    "call_table.h": make_table,
    "call_names.h": make_names,
    "call_grammar.h": make_grammar,
}


def main(argv):
    if len(argv) != 4:
        print("usage: calls.py abi/calls.list OUTDIR REFERENCE.md", file=sys.stderr)
        return 2
    path, outdir, reference = argv[1:]
    try:
        errors = read_errors(os.path.join(os.path.dirname(path), "exo.h"))
        calls = read_list(path, errors)
    except (ListError, OSError, UnicodeError) as error:
        print(f"calls.py: {error}", file=sys.stderr)
        return 1
    os.makedirs(outdir, exist_ok=True)
    for name, make in OUTPUTS.items():
        with open(os.path.join(outdir, name), "w", encoding="ascii") as file:
            file.write(make(calls, errors))
    with open(reference, "w", encoding="ascii") as file:
        file.write(make_reference(calls, errors))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
