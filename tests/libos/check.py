#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs mksh's test-suite where there is no perl: check.py write CHECK.T DIRECTORY.

Each test of check.t (its form is told at the beginning of check.pl, of the same package)
becomes a shell script, which prints "@@ NUMBER EXIT", and in base64 what the shell wrote to
its standard output and error; verdicts() compares. Only what check.t uses is known here.
"""
import base64
import os
import re
import shlex
import sys

SHELL = "/suite/bin/mksh"
LIMIT = 20  # seconds for a test
CATEGORIES = {"os:linux", "shell:ebcdic-no", "shell:ascii-yes", "shell:legacy-no", "int:32",
              "shell:textmode-no", "shell:binmode-yes", "stdout-ed", "no-stderr-ed",
              "shell:fast-no"}
RESULT = re.compile(r"^@@ (\d+) (\d+)\nO:(\S*)\nE:(\S*)$", re.MULTILINE)


def read_tests(path):
    """Dictionaries: tag -> value, and "files": a list of (kind, mode, name, data)."""
    with open(path, encoding="latin-1", newline="\n") as file:
        lines = file.read().split("\n")
    tests, test, at = [], {"files": []}, 0
    while at < len(lines):
        line = lines[at]
        at += 1
        if line.startswith("---"):
            if "name" in test:
                tests.append(test)
            test = {"files": []}
            continue
        match = re.match(r"([a-z][a-z-]*):\s*(.*?)\s*$", line)
        if not match or line.startswith("#"):
            continue
        tag, value = match.groups()
        block = []
        while at < len(lines) and lines[at].startswith("\t"):
            block.append(lines[at][1:])
            at += 1
        text = "".join(part + "\n" for part in block)
        if tag == "file-setup":
            kind, mode, name = re.match(r'!?\s*(\w+) (\d+) "([^"]*)"', value).groups()
            test["files"].append((kind, mode, name, text))
        elif tag not in test:
            test[tag] = text[:-1] if value == "!" else text if not value else value
    return tests


def applies(test):
    wanted = [word.strip() for word in test.get("category", "").strip().split(",") if word.strip()]
    positive = [word for word in wanted if not word.startswith("!")]
    if any(word[1:] in CATEGORIES for word in wanted if word.startswith("!")):
        return False
    return not positive or any(word in CATEGORIES for word in positive)


def fields(value):
    return value.strip("\n")[1:-1].split(value[0]) if value else []


def encoded(text):
    return base64.b64encode(text.encode("latin-1")).decode()


def script(number, test):
    lines = ["#!/bin/sh", f"rm -rf /tmp/check; mkdir -p /tmp/check/d; cd /tmp/check/d"]
    for kind, mode, name, data in test["files"]:
        quoted = shlex.quote(name)
        if kind == "dir":
            lines.append(f"mkdir -m {mode} {quoted}")
        elif kind == "symlink":
            lines.append(f"ln -s {shlex.quote(data.strip())} {quoted}")
        else:
            lines += [f"echo '{encoded(data)}' | base64 -d >{quoted}", f"chmod {mode} {quoted}"]
    arguments = [shlex.quote(part) for part in fields(test.get("arguments", ""))]
    if "script" in test:
        lines.append(f"echo '{encoded(test['script'])}' | base64 -d >../s")
        arguments.append("/tmp/check/s")
    lines.append(f"echo '{encoded(test['stdin'])}' | base64 -d >../i" if "stdin" in test
                 else ": >../i")
    changed = {"HOME": "/root", "PATH": "/bin:/sbin:/usr/bin:/usr/sbin", "ENV": "/nonexistant",
               "LANG": "C", "LC_ALL": "C", "__progname": SHELL, "__perlname": "/no/perl"}
    for part in fields(test.get("env-setup", "")):
        name, _, value = part.partition("=")
        changed.pop(name, None)
        if "=" in part:
            changed[name] = value.replace("@utflocale@", "C.UTF-8")
    settings = " ".join(f"{name}={shlex.quote(value)}" for name, value in changed.items())
    lines.append(f"timeout -s KILL {LIMIT} env -i {settings} {SHELL} {' '.join(arguments)}"
                 " <../i >../o 2>../e")
    lines.append(f'echo "@@ {number} $?"')
    for letter in "oe":
        lines.append(f'echo "{letter.upper()}:$(head -c 4000 ../{letter} | base64 | tr -d "\\n")"')
    return "\n".join(lines) + "\n"


def write(path, directory):
    os.makedirs(directory, exist_ok=True)
    for number, test in enumerate(read_tests(path)):
        if applies(test):
            name = os.path.join(directory, f"{number:03d}.sh")
            with open(name, "w", encoding="latin-1", newline="\n") as file:
                file.write(script(number, test))


def output_right(test, tag, text):
    if tag + "-pattern" in test:
        pattern = test[tag + "-pattern"].strip("\n")
        return re.search(pattern[1:-1].replace("\\/", "/"), text) is not None
    return text == test.get(tag, "")


def exit_right(test, status):
    expected = test.get("expected-exit", "0").strip()
    if expected.isdigit():
        return status == int(expected)
    operation, number = re.fullmatch(r"e (==|!=|>) (\d+)", expected).groups()
    return {"==": status == int(number), "!=": status != int(number),
            ">": status > int(number)}[operation]


def verdicts(path, text):
    """Test's name -> whether it went as expected, of what the scripts printed."""
    tests = read_tests(path)
    results = {}
    for number, status, out, err in RESULT.findall(text):
        test = tests[int(number)]
        decoded = [base64.b64decode(part).decode("latin-1") for part in (out, err)]
        good = (exit_right(test, int(status)) and output_right(test, "expected-stdout", decoded[0])
                and output_right(test, "expected-stderr", decoded[1]))
        results[test["name"]] = good != (test.get("expected-fail", "no").strip() == "yes")
    return results


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "write":
        sys.exit(__doc__)
    write(sys.argv[2], sys.argv[3])
