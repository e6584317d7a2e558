#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The bit-level facts that the proof of core uses, proved by z3 with bit vectors.

    bits.py DIRECTORY

WP's provers reason about integers and know little about masks and shifts. So the layout
of frame words and page-table entries is defined here once; DIRECTORY/closed/bits.h declares them
as ACSL logic functions with the facts as axioms, DIRECTORY/open/bits.h defines them, and z3 proves each fact from the
same definitions first. All of it is over non-negative integers; z3 works with 128 bits,
which nothing here exceeds (a fact's variables have given bounds). That core's C functions
compute what the definitions say is proved by WP.

In the expressions: u32(x), u64(x) are casts, where(c, a, b) is c ? a : b.
"""
import ast
import os
import re
import subprocess
import sys

WIDTH = 128
ADDR = "0x000ffffffffff000"

DEFINITIONS = [  # name, parameters, kind, body; those of kind "int" are opaque to the provers
    ("w_type", "w", "int", "u32(w >> 32) & 15"),
    ("w_bindings", "w", "open", "u32(w)"),
    ("w_high", "w", "open", "w & 0xffffffff00000000"),
    ("w_owner", "w", "int", "w >> 38"),
    ("w_typed", "t, o", "int", "u64(t << 32) | u64(o << 38)"),
    ("p_present", "e", "bool", "(e & 1) != 0"),
    ("p_large", "e", "bool", "(e & 0x80) != 0"),
    ("p_writable", "e", "bool", "(e & 2) != 0"),
    ("p_frame", "e", "int", f"u32((e & {ADDR}) >> 12)"),
    ("p_format", "flags", "int", "flags & 4"),
    # m, of any value: 0 native format, else EPT's
    ("p_sel", "m, e", "int",
     "where(m != 0, u32((e >> 10) & 3) | u32(u32(e >> 52) << 2),"
     " u32((e >> 9) & 7) | u32(u32((e >> 52) & 0x7ff) << 3))"),
    ("p_sel_bits", "s", "int", "u64((s & 7) << 9) | u64((s >> 3) << 52)"),
    ("p_ept_sel_bits", "s", "int", "u64((s & 3) << 10) | u64((s >> 2) << 52)"),
    ("p_rights", "m, e", "int",
     "where(m != 0, u32(e & 7), where((e & 4) == 0, 0, 1 | where((e & 2) != 0, 2, 0)"
     " | where((e & (1 << 63)) == 0, 4, 0)))"),
    ("p_ept_leaf", "f, r, s, l, c", "int",
     "u64(f << 12) | (r & 7) | p_ept_sel_bits(s) | 0x40 | where(c == 0, 0x30, 0)"
     " | where(l > 1, 0x80, 0)"),
    ("p_leaf", "m, f, r, s, l, c", "int",
     "where(m != 0, p_ept_leaf(f, r, s, l, c), u64(f << 12) | 1 | p_sel_bits(s) | c"
     " | where(r != 0, 4, 0) | (r & 2) | where((r & 4) == 0, 1 << 63, 0)"
     " | where(l > 1, 0x80, 0))"),
    # a run: entries that differ in frame, accessed and dirty bits only (protect.c)
    ("p_varies", "m", "int", f"where(m != 0, {ADDR} | 0x300, {ADDR} | 0x60)"),
    ("p_unlike", "v, a, b", "int", "u64(a ^ b) & u64(~v)"),
    ("p_lost", "had, rights", "int", "had & u32(~rights)"),
    ("p_xor", "a, b", "int", "u64(a ^ b)"),
    ("p_flip", "m, e, r", "int",
     "u64(e ^ p_leaf(m, 0, r, 0, 1, 0)) & where(m != 0, 7, 0x8000000000000006)"),
    ("p_at", "b, f", "int", "b | u64(f << 12)"),
    # words of lines[]: a bit for each line of 8 entries (page.c)
    ("l_at", "x, i", "int", "(x >> (i // 8)) & 1"),
    ("l_marked", "x, i, last", "int",
     "x | u64(u64(u64(2 << ((last // 8) - (i // 8))) - 1) << (i // 8))"),
    ("l_without", "x, i", "int", "x & u64(~u64(1 << (i // 8)))"),
    ("v_pages", "l", "int", "u64(1 << u32(9 * u32(l - 1)))"),  # frames of a leaf
    ("v_index", "v, l", "int", "u32(v >> u32(12 + 9 * u32(l - 1))) & 511"),
    ("v_shift", "v, l", "int", "v >> u32(12 + 9 * u32(l - 1))"),
    ("v_swept", "v", "bool", "v < 0x800000000000 or 0xffff880000000000 <= v"),
    ("v_next", "v, l", "int",
     "where(u64((v & u64(~u64(u64(1 << u32(12 + 9 * u32(l - 1))) - 1)))"
     " + u64(1 << u32(12 + 9 * u32(l - 1)))) == 0x800000000000, 0xffff880000000000,"
     " u64((v & u64(~u64(u64(1 << u32(12 + 9 * u32(l - 1))) - 1)))"
     " + u64(1 << u32(12 + 9 * u32(l - 1)))))"),
    ("p_table", "m, f, s", "int",
     "where(m != 0, u64(f << 12) | 7 | p_ept_sel_bits(s), u64(f << 12) | 1 | 2 | 4 | p_sel_bits(s))"),
]

U64 = "{0} < (1 << 64)"
U32 = "{0} < (1 << 32)"
LEAF = ("f < (1 << 32) and s < (1 << 14) and (c == 0 or c == 0x18) and l <= 3 "
        "and (r == 1 or r == 3 or r == 5 or r == 7)")
LEAF_TERM = "p_leaf(m, f, r, s, l, c)"
TABLE = "f < (1 << 32) and s < (1 << 14)"

FACTS = [  # name, variables, hypothesis, conclusion
    ("count", "w, v", "w < (1 << 64) and v == w + 1 and w_bindings(w) != 0xffffffff",
     "v < (1 << 64) and w_type(v) == w_type(w) and w_bindings(v) == w_bindings(w) + 1 "
     "and w_owner(v) == w_owner(w)"),
    ("uncount", "w, v", "w < (1 << 64) and w == v + 1 and w_bindings(w) != 0",
     "w_type(v) == w_type(w) and w_bindings(w) == w_bindings(v) + 1 and w_owner(v) == w_owner(w)"),
    ("room", "w", "w < (1 << 64) and w_bindings(w) != 0xffffffff", "w + 1 < (1 << 64)"),
    ("high", "w", "w < (1 << 64)", "w_high(w) <= w"),
    ("typed", "t, o", "t <= 15 and o < (1 << 26)",
     "w_type(w_typed(t, o)) == t and w_bindings(w_typed(t, o)) == 0 and "
     "w_typed(t, o) < (1 << 64) and w_owner(w_typed(t, o)) == o"),
    ("negate", "x", "0 < x and x < (1 << 64)", "u64(-x) + x == (1 << 64)"),
    ("narrow", "a, b", "a < 256 and b < (1 << 32)", "(u8(a & b) & u32(~a)) == 0"),
    ("narrow_too", "a, b", "a < (1 << 32) and b < 256", "(u8(a & b) & u32(~b)) == 0"),
    ("product", "d, n, p", "d < n and n <= 512 and (p == 1 or p == 512 or p == 262144)",
     "p + d * p <= n * p"),
    ("pages_1", "l", "l == 1", "v_pages(l) == 1"),
    ("pages_2", "l", "l == 2", "v_pages(l) == 512"),
    ("pages_3", "l", "l == 3", "v_pages(l) == 262144"),
    ("complement", "x", "x < (1 << 64)", "u64(~x) + x == (1 << 64) - 1"),
    ("small", "x, y", "x < 32 and y < 32", "(x | y) < 32 and (x & y) < 32"),
    ("smaller", "x, y", "x < 32 and y < (1 << 32)", "(x & y) < 32 and 0 <= (x & y)"),
    ("or_table", "l", "l < 8", "(l | 8) == l + 8 and (l & 8) == 0 and (l & 7) == l"),
    ("is_table", "l", "8 <= l and l < 16", "(l & 8) != 0 and (l & 7) + 8 == l"),
    ("block_2m", "f", "f < (1 << 26)", "(f >> 9) < (1 << 17)"),
    ("block_1g", "f", "f < (1 << 26)", "(f >> 18) < (1 << 8)"),
    ("untyped", "w, v", "w < (1 << 64) and v + w_high(w) == w",
     "w_type(v) == 0 and w_bindings(v) == w_bindings(w)"),
    ("leaf", "m, f, r, s, l, c", LEAF,
     f"p_present({LEAF_TERM}) and p_frame({LEAF_TERM}) == f and p_sel(m, {LEAF_TERM}) == s and "
     f"p_rights(m, {LEAF_TERM}) == r and {LEAF_TERM} < (1 << 64)"),
    ("leaf_at", "m, f, r, s, l, c", LEAF, f"p_at(p_leaf(m, 0, r, s, l, c), f) == {LEAF_TERM}"),
    ("leaf_large", "m, f, r, s, l, c", LEAF,
     f"(l > 1) == p_large({LEAF_TERM}) and (r == 3 or r == 7) == p_writable({LEAF_TERM})"),
    ("table", "m, f, s", TABLE,
     "p_present(p_table(m, f, s)) and p_frame(p_table(m, f, s)) == f and p_sel(m, p_table(m, f, s)) == s "
     "and not p_large(p_table(m, f, s)) and p_table(m, f, s) < (1 << 64)"),
    ("flip", "m, e, r, x", "e < (1 << 64) and x < (1 << 64) and p_present(e) and "
     "p_unlike(p_varies(m), x, e) == 0 and (r == 1 or r == 3 or r == 5 or r == 7 or (r == 0 and m == 0))",
     "p_present(p_xor(x, p_flip(m, e, r))) and p_frame(p_xor(x, p_flip(m, e, r))) == p_frame(x) and "
     "p_sel(m, p_xor(x, p_flip(m, e, r))) == p_sel(m, e) and p_sel(m, x) == p_sel(m, e) and "
     "p_rights(m, p_xor(x, p_flip(m, e, r))) == r and p_large(p_xor(x, p_flip(m, e, r))) == p_large(x) and "
     "p_xor(x, p_flip(m, e, r)) < (1 << 64)"),
    ("alike", "v, x", "v < (1 << 64) and x < (1 << 64)", "p_unlike(v, x, x) == 0"),
    ("lowest", "x", "0 < x and x < (1 << 64)", "(x & u64(-x)) != 0 and (x & (x - 1)) < x"),
    ("upto", "p", "p < 65536", "p <= (p | 63) and (p | 63) < p + 64 and (p | 63) < 65536 and "
     "(p >> 15) <= 1 and ((p >> 6) & 511) <= 511 and (p & 63) <= 63 and "
     "0 <= ((p >> 6) & 511) and 0 <= (p & 63)"),
    ("line_marked", "x, i, last, j", "x < (1 << 64) and i <= last and last < 512 and j < 512",
     "(l_at(l_marked(x, i, last), j) != 0) == (l_at(x, j) != 0 or "
     "((i // 8) <= (j // 8) and (j // 8) <= (last // 8)))"),
    ("line_without", "x, i, j", "x < (1 << 64) and i < 512 and j < 512",
     "(l_at(l_without(x, i), j) != 0) == (l_at(x, j) != 0 and (i // 8) != (j // 8))"),
    ("line_empty", "x, i, j", "x < (1 << 64) and i <= j and j < 512 and (x >> (i // 8)) == 0",
     "l_at(x, j) == 0"),
    ("line_skip", "x, i, n, j", "x < (1 << 64) and i <= j and i < 512 and n < 64 and "
     "((x >> (i // 8)) & ((1 << n) - 1)) == 0 and j < ((i // 8) + n) * 8", "l_at(x, j) == 0"),
    ("line_begin", "x, i, n", "x < (1 << 64) and i < 512 and 0 < n and n < 64 and "
     "(((x >> (i // 8)) >> n) & 1) != 0", "(i // 8) + n <= 63"),
    ("frame_cut", "e", "e < (1 << 64)", "u32(e >> 12) == p_frame(e)"),
    ("rights", "x", "x < (1 << 64)",
     "((x & 0xfffffffffffffff8) == 0) == (x <= 7) and "
     "(x > 7 or ((x & 1) != 0) == (x == 1 or x == 3 or x == 5 or x == 7))"),
    ("index", "v, l", "v < (1 << 64) and 1 <= l and l <= 4", "0 <= v_index(v, l) and v_index(v, l) <= 511"),
    ("index_top", "v", "v < 0x7ffffffff000 or (v < (1 << 64) and v >= 0xffff880000000000)",
     "v_index(v, 4) < 256 or v_index(v, 4) >= 272"),
    ("index_swept", "v", "v < (1 << 64) and v_swept(v)",
     "v_index(v, 4) < 256 or v_index(v, 4) >= 272"),
    ("next_swept", "v, l", "v < (1 << 64) and v_swept(v) and 1 <= l and l <= 4",
     "v_swept(v_next(v, l)) and v_next(v, l) < (1 << 64)"),
    ("next_one", "v, l", "v < (1 << 64) and v_swept(v) and 1 <= l and l <= 4",
     "v_shift(v_next(v, l), l) == v_shift(v, l) + 1 or v_next(v, l) == 0xffff880000000000"
     " or v_next(v, l) == 0"),
    ("frame_range", "e", U64.format("e"), "0 <= p_frame(e) and p_frame(e) < (1 << 32)"),
    ("sel_range", "m, e", U64.format("e"), "0 <= p_sel(m, e) and p_sel(m, e) < (1 << 14)"),
    ("rights_range", "m, e", U64.format("e"), "p_rights(m, e) <= 7"),
    ("walk", "e", U64.format("e"), "((e & 0x81) == 1) == (p_present(e) and not p_large(e))"),
    ("nothing", "m, e", "e == 0", "not p_present(e) and p_frame(e) == 0 and p_sel(m, e) == 0"),
]

BINARY = {ast.BitAnd: ("&", "bvand"), ast.BitOr: ("|", "bvor"), ast.BitXor: ("^", "bvxor"), ast.LShift: ("<<", "bvshl"),
          ast.RShift: (">>", "bvlshr"), ast.Add: ("+", "bvadd"),
          ast.FloorDiv: ("/", "bvudiv"), ast.Sub: ("-", "bvsub"), ast.Mult: ("*", "bvmul")}
UNARY = {ast.Not: ("!", "not"), ast.Invert: ("~", "bvnot"), ast.USub: ("-", "bvneg")}
COMPARE = {ast.Eq: ("==", "="), ast.NotEq: ("!=", "distinct"), ast.Lt: ("<", "bvult"),
           ast.LtE: ("<=", "bvule"), ast.Gt: (">", "bvugt"), ast.GtE: (">=", "bvuge")}
BOOLEAN = {name for name, _, kind, _ in DEFINITIONS if kind == "bool"}


def is_boolean(node):
    return isinstance(node, (ast.BoolOp, ast.Compare)) or \
        (isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not)) or \
        (isinstance(node, ast.Call) and node.func.id in BOOLEAN)


def acsl(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return hex(node.value) if node.value > 9 else str(node.value)
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.LShift) and \
                isinstance(node.left, ast.Constant) and isinstance(node.right, ast.Constant):
            return hex(node.left.value << node.right.value)
        return f"({acsl(node.left)} {BINARY[type(node.op)][0]} {acsl(node.right)})"
    if isinstance(node, ast.Compare):
        operator = COMPARE[type(node.ops[0])][0]
        if is_boolean(node.left):
            operator = {"==": "<==>", "!=": "^^"}[operator]
        return f"({acsl(node.left)} {operator} {acsl(node.comparators[0])})"
    if isinstance(node, ast.BoolOp):
        operator = " && " if isinstance(node.op, ast.And) else " || "
        return "(" + operator.join(acsl(v) for v in node.values) + ")"
    if isinstance(node, ast.UnaryOp):
        return f"({UNARY[type(node.op)][0]}{acsl(node.operand)})"
    arguments = [acsl(a) for a in node.args]
    if node.func.id in ("u8", "u32", "u64"):
        return f"((uint{node.func.id[1:]}_t)({arguments[0]}))"
    if node.func.id == "where":
        return f"({arguments[0]} ? {arguments[1]} : {arguments[2]})"
    return f"{node.func.id}({', '.join(arguments)})"


def smt(node):
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Constant):
        return f"(_ bv{node.value} {WIDTH})"
    if isinstance(node, ast.BinOp):
        return f"({BINARY[type(node.op)][1]} {smt(node.left)} {smt(node.right)})"
    if isinstance(node, ast.Compare):
        return f"({COMPARE[type(node.ops[0])][1]} {smt(node.left)} {smt(node.comparators[0])})"
    if isinstance(node, ast.BoolOp):
        operator = "and" if isinstance(node.op, ast.And) else "or"
        return f"({operator} {' '.join(smt(v) for v in node.values)})"
    if isinstance(node, ast.UnaryOp):
        return f"({UNARY[type(node.op)][1]} {smt(node.operand)})"
    arguments = [smt(a) for a in node.args]
    if node.func.id in ("u8", "u32", "u64"):
        return f"(bvand {arguments[0]} (_ bv{(1 << int(node.func.id[1:])) - 1} {WIDTH}))"
    name = "ite" if node.func.id == "where" else node.func.id
    return f"({name} {' '.join(arguments)})"


def parse(text):
    return ast.parse(text, mode="eval").body


def names(text):
    return [name.strip() for name in text.split(",")]


def definitions_acsl():
    """The definitions as macros: what the C functions that compute them are compared with."""
    lines = ["/* Made by tests/proof/bits.py. */"]
    for name, parameters, _, body in DEFINITIONS:
        lines.append(f"#define {name}({parameters}) {acsl(parse(body))}")
    return "\n".join(lines + [""])


def facts_acsl():
    """The facts, and declarations of what they are about."""
    lines = ["/* Made by tests/proof/bits.py. */"]
    for block, prefixes in (("arithmetic", ()), ("words", ("w_",)), ("entries", ("p_", "v_")),
                            ("lines", ("l_",))):
        lines.append(f"/*@ axiomatic {block} {{")
        for name, parameters, kind, body in DEFINITIONS:
            if not name.startswith(prefixes):
                continue
            typed = ", ".join("integer " + p for p in names(parameters))
            head = "predicate" if kind == "bool" else "logic integer"
            definition = f" = {acsl(parse(body))}" if kind != "int" else ""
            lines.append(f"  {head} {name}({typed}){definition};")
        for name, variables, hypothesis, conclusion in FACTS:
            about = re.search(r"\b[wpvl]_", conclusion + hypothesis)
            if about is not None and about.group() not in prefixes or \
                    about is None and prefixes:
                continue
            typed = ", ".join(names(variables))
            bounds = " && ".join(f"0 <= {v}" for v in names(variables) if v != "m")
            lines.append(f"  axiom bits_{name}: \\forall integer {typed}; {bounds} && "
                         f"{acsl(parse(hypothesis))} ==> {acsl(parse(conclusion))};")
        lines.append("} */")
    return "\n".join(lines + [""])


def script(variables, hypothesis, conclusion):
    lines = ["(set-logic QF_BV)"]
    for name, parameters, kind, body in DEFINITIONS:
        typed = " ".join(f"({p} (_ BitVec {WIDTH}))" for p in names(parameters))
        result = "Bool" if kind == "bool" else f"(_ BitVec {WIDTH})"
        lines.append(f"(define-fun {name} ({typed}) {result} {smt(parse(body))})")
    for variable in names(variables):
        lines.append(f"(declare-const {variable} (_ BitVec {WIDTH}))")
        lines.append(f"(assert {smt(parse(variable + ' < (1 << 65)'))})")
    lines.append(f"(assert {smt(parse(hypothesis))})")
    lines.append(f"(assert (not {smt(parse(conclusion))}))")
    return "\n".join(lines + ["(check-sat)", ""])


def main(argv):
    failed = 0
    for name, variables, hypothesis, conclusion in FACTS:
        answer = subprocess.run(["z3", "-in", "-T:600"], text=True, check=False,
                                input=script(variables, hypothesis, conclusion),
                                stdout=subprocess.PIPE).stdout.strip()
        if answer != "unsat":
            print(f"bits: {name} is not proved: {answer}")
            failed += 1
    print(f"bits: {len(FACTS) - failed} of {len(FACTS)} facts proved by z3")
    for kind, text in (("open", definitions_acsl()), ("closed", facts_acsl())):
        directory = os.path.join(argv[1], kind)
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, "bits.h.new"), "w", encoding="ascii") as output:
            output.write(text)
        os.replace(output.name, os.path.join(directory, "bits.h"))  # others may be reading it
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
