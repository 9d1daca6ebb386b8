"""Sizes of binaries.

By room: the linker's own account. The build's last command is asked of make (nothing is built), and
linked again into nowhere with a map, which names for each piece of each section the object that it
came from, after unused ones were dropped. Strings of equal text are merged and counted where the
linker met them first. What the map gives to no object (headers, padding) is the rest of the file.
"""
import os
import re
import shlex
import subprocess
import tempfile

# Sections that are in the file; .bss is not.
LOADED = re.compile(r"^\.(text|rodata|data|init|fini|got|eh_frame|tdata|rela|dyn|hash|gnu)")


def libraries(program):
    """Paths of the shared libraries that it is linked with, the dynamic linker among them."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    return re.findall(r"(/\S+) \(0x", done.stdout) if done.returncode == 0 else []


def link_command(tree):
    done = subprocess.run(["make", "-n", "-W", "vmm.c", "V=1", "build/mayfly"], cwd=tree,
                          capture_output=True, text=True, check=False)
    text = done.stdout.replace("\\\n", " ")
    lines = [line for line in text.splitlines() if " -o build/mayfly.tmp " in line]
    return shlex.split(lines[0]) if lines else None


def room(path):
    """core, kvm, ...; main for the files of the root; libc for what is not ours."""
    if not path.startswith("build/obj/"):
        return "libc"
    inside = path.removeprefix("build/obj/")
    return inside.split("/")[0] if "/" in inside else "main"


def parse_map(text):
    """{room: bytes}"""
    sizes = {}
    section = None
    body = text[text.index("Linker script and memory map"):]
    # A long name of a section stands on a line of its own.
    for line in re.sub(r"\n( \S+)\n +(0x)", r"\n\1 \2", body).splitlines():
        if m := re.match(r"(\.\S+)", line):
            section = m[1]
        m = re.match(r" (?:\S+|\*fill\*) +0x([0-9a-f]+) +0x([0-9a-f]+) (\S.*)", line)
        if m and int(m[1], 16) and section and LOADED.match(section) and ".bss" not in section:
            path = re.sub(r"\(.*\)$", "", m[3])
            sizes[room(path)] = sizes.get(room(path), 0) + int(m[2], 16)
    return sizes


def of_rooms(tree):
    """{room: bytes} of the binary that was built in this tree; empty where its build can't be
    asked."""
    command = link_command(tree)
    if not command:
        return {}
    with tempfile.TemporaryDirectory() as tmp:
        command[command.index("-o") + 1] = f"{tmp}/mayfly"
        done = subprocess.run([*command, f"-Wl,-Map={tmp}/map"], cwd=tree, capture_output=True,
                              check=False)
        if done.returncode:
            return {}
        with open(f"{tmp}/map") as f:
            return parse_map(f.read())
