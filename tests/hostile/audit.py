"""What a process and all that it starts have done to files, and which programs they ran: read from strace.

One file of the trace for each thread (`strace -ff`), with the paths of descriptors (`-y`) and whole environments
(`-v`). Only calls that name a path are traced: what is written through a descriptor was opened for writing first.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from tests.site import wait_for

# Calls that change what a path names, each with the positions of its paths (a descriptor, then a name, for …at).
_CHANGES = {
    "mkdir": 1, "mkdirat": 1, "rmdir": 1, "unlink": 1, "unlinkat": 1, "rename": 2, "renameat": 2, "renameat2": 2,
    "link": 2, "linkat": 2, "symlink": 1, "symlinkat": 1, "mknod": 1, "mknodat": 1, "truncate": 1, "creat": 1,
    "chmod": 1, "fchmodat": 1, "chown": 1, "lchown": 1, "fchownat": 1, "utimensat": 1,
    "setxattr": 1, "lsetxattr": 1,
}  # fmt: skip
_OPENS = ("open", "openat", "openat2")
_OTHERS = ("execve", "execveat", "chdir", "fchdir")
_WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_CALL = re.compile(r"^(\w+)\((.*)\)\s+= (-?\d+|\?)")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?')
_DESCRIPTOR = re.compile(r"^(?:AT_FDCWD|\d+)<([^>]*)>$")


@dataclass(frozen=True)
class Executed:
    """A program that was started: where, with which arguments and variables."""

    argv: tuple[str, ...]
    environment: tuple[str, ...]
    folder: str


@dataclass
class Audit:
    """`changed` holds every path that was made, written, renamed or removed; `opened` those only read."""

    changed: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    executed: list[Executed] = field(default_factory=list)
    calls: int = 0


@cache
def why_not() -> str:
    """Why programs cannot be traced here; empty when they can."""
    if shutil.which("strace") is None:
        return "needs strace"
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "true"], capture_output=True, check=False)
    return "" if done.returncode == 0 else "strace may not trace here"


def through(target: Path) -> tuple[str, ...]:
    """What to start a program with, so that `read_audit(target)` tells of it; it stays our own child."""
    calls = ",".join((*_CHANGES, *_OPENS, *_OTHERS))
    options = ("-D", "-ff", "-y", "-v", "-s", "8192", "--seccomp-bpf", "-o", str(target), "-e", f"trace={calls}")
    return ("strace", *options)


def wait_for_end(target: Path, pid: int) -> None:
    """Until the trace of an ended program is whole."""
    trace = target.with_name(f"{target.name}.{pid}")
    wait_for(lambda: trace.read_text(errors="replace").rstrip().endswith("+++"), what="the trace's end")


def read_audit(target: Path) -> Audit:
    """Everything that the traced program and its descendants did."""
    audit = Audit()
    for path in sorted(target.parent.glob(f"{target.name}.*")):
        _read_thread(path, audit)
    return audit


def _read_thread(path: Path, audit: Audit) -> None:
    folder = ""
    for line in path.read_text(errors="replace").splitlines():
        found = _CALL.match(line)
        if found is None:
            continue
        audit.calls += 1
        name, text, result = found.groups()
        arguments = list(_split(text))
        if name in ("chdir", "fchdir"):
            folder = str(Path(folder, _unquote(arguments[0])))
        elif name == "execve" and result == "0":
            argv, environment = _strings(arguments[1]), _strings(arguments[2])
            audit.executed.append(Executed(argv, environment, folder))
        elif name in _OPENS:
            opened = _path(arguments, folder)
            (audit.changed if _WRITING.search(text.rpartition('"')[2]) else audit.opened).add(opened)
        elif name in _CHANGES and result == "0":
            if name.startswith("symlink"):
                del arguments[0]  # what the link says
            for _ in range(_CHANGES[name]):
                audit.changed.add(_path(arguments, folder))


def _split(text: str) -> Iterator[str]:
    """The arguments of a call, at the commas that are not within strings or brackets."""
    depth, start, position = 0, 0, 0
    while position < len(text):
        sign = text[position]
        if sign == '"':
            found = _STRING.match(text, position)
            assert found is not None, text[:200]
            position = found.end()
            continue
        depth += (sign in "[{<(") - (sign in "]}>)")
        if sign == "," and depth == 0:
            yield text[start:position].strip()
            start = position + 1
        position += 1
    yield text[start:].strip()


def _path(arguments: list[str], folder: str) -> str:
    """The first path of these arguments, which are taken away: `"name"`, or `descriptor<folder>, "name"`."""
    first = arguments.pop(0)
    within = _DESCRIPTOR.match(first)
    if within is None:
        return str(Path(folder, _unquote(first)))
    return str(Path(within[1], _unquote(arguments.pop(0))))


def _unquote(text: str) -> str:
    found = _STRING.search(text)
    return (
        found[1].encode().decode("unicode_escape").encode("latin-1").decode("utf-8", "replace") if found else text
    )


def _strings(text: str) -> tuple[str, ...]:
    return tuple(match[1] for match in _STRING.finditer(text))
