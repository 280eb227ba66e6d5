#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The man pages name every key of the configuration with its default, every command and every option; and no other.

usage: man_pages.py BUILD_DIRECTORY
"""
import os
import re
import subprocess
import sys

build, man = sys.argv[1], os.path.join(os.path.dirname(__file__), "..", "..", "docs", "man")
problems = []


def output(*argv):
    return subprocess.run(argv, check=True, text=True, capture_output=True).stdout


def page(name):
    with open(os.path.join(man, name), encoding="utf-8") as f:
        return f.read().replace("\\-", "-").replace("\\(aq", "'")


def check(what, wanted, found):
    for missing in wanted - found:
        problems.append(f"{what}: the page does not have {missing}")
    for strange in found - wanted:
        problems.append(f"{what}: the program does not have {strange}")


def keys(pairs):
    """(section, key, default) of lines that begin a section or give a key."""
    section, result = None, set()
    for new_section, key, value in pairs:
        section = new_section or section
        if key:
            result.add((section, key, value.strip()))
    return result


example = output(f"{build}/noded", "--example")
check("noded.conf.5", keys(re.findall(r"^(?:\[(\w+)\]|#(\w+) =(.*))$", example, re.M)),
      keys(re.findall(r'^(?:\.SH \[(\w+)\]|\.BR (\w+)(?: " = (.*)")?)$', page("noded.conf.5").split(".SH EXAMPLE")[0],
                      re.M)))

overview = output(f"{build}/nodectl", "--help")
commands = set(re.findall(r"^  ((?:(?:snapshot|firewall|forward|storage|pool|env|network|project|share|event|server|image|kit|pki) )?[a-z-]+)", overview.split("A CONTAINER")[0], re.M))
page1 = page("nodectl.1")
check("nodectl.1 commands", commands, set(re.findall(r'^\.BI "([a-z -]+)"', page1, re.M)))
options = set(re.findall(r"^  (--[a-z-]+)", overview, re.M))
for command in commands:
    options |= set(re.findall(r"^  (--[a-z-]+)", output(f"{build}/nodectl", *command.split(), "--help"), re.M))
check("nodectl.1 options", options, set(re.findall(r"^\.B (--[a-z-]+)", page1, re.M)))
check("noded.8 options", set(re.findall(r"(--[a-z]+)", output(f"{build}/noded", "--help"))),
      set(re.findall(r"(--[a-z]+)", page("noded.8").split(".SH OPTIONS")[1].split(".SH ACCESS")[0])))

for name in ("nodectl.1", "noded.8", "noded.conf.5"):
    warnings = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z", os.path.join(man, name)], text=True,
                              capture_output=True, check=False)
    problems += warnings.stderr.splitlines()

print("\n".join(problems) or "the man pages are complete")
sys.exit(bool(problems))
