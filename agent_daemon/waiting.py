"""Whether a program waits for somebody to type something: what its threads sleep in, read from /proc.

A CLI that keeps a shell open on a terminal reads it, too, while a model answers. So nothing counts as waiting
while any process of the run holds a connection. Where the kernel does not say what a thread sleeps in
(another user's process, a hardened container), nothing is taken for waiting.
"""

import os
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

_PROC = Path("/proc")
_Memory = Callable[[int, int], bytes]

# The numbers of the calls that wait for something to read, by machine.
_READ, _POLL, _SELECT, _EPOLL = "read", "poll", "select", "epoll"
_CALLS = {
    "x86_64": {
        0: _READ, 17: _READ, 19: _READ, 7: _POLL, 271: _POLL, 23: _SELECT, 270: _SELECT,
        232: _EPOLL, 281: _EPOLL, 441: _EPOLL,
    },
    "aarch64": {63: _READ, 65: _READ, 67: _READ, 73: _POLL, 72: _SELECT, 22: _EPOLL, 441: _EPOLL},
}  # fmt: skip
_CONNECTED = frozenset({"01", "02"})  # established, or being made
_LONGEST_LIST_BYTES = 8192


def wait_for_input(pids: Iterable[int], leader: int) -> bool:
    """Whether one of these processes reads a terminal, or the standard input that their leader has.

    False while any of them has a network connection: then it may as well be an answer that is waited for.
    """
    family = list(pids)
    standard = _target(leader, 0)
    reading = any(_is_input(pid, fd, standard) for pid in family for fd in _awaited(pid))
    return reading and not _connected(family)


def _is_input(pid: int, descriptor: int, standard: str) -> bool:
    target = _target(pid, descriptor)
    terminal = target.startswith(("/dev/pts/", "/dev/tty", "/dev/console")) and not target.endswith("ptmx")
    return terminal or (target != "" and target == standard)


def _target(pid: int, descriptor: int) -> str:
    try:
        return str((_PROC / str(pid) / "fd" / str(descriptor)).readlink())
    except OSError:
        return ""


def _awaited(pid: int) -> Iterator[int]:
    """The descriptors that the threads of a process sleep on until there is something to read."""
    try:
        threads = os.listdir(_PROC / str(pid) / "task")
    except OSError:
        return
    calls = _CALLS.get(os.uname().machine, {})
    for thread in threads:
        try:
            words = (_PROC / str(pid) / "task" / thread / "syscall").read_text().split()
            number, arguments = int(words[0]), [int(word, 16) for word in words[1:4]]
        except (OSError, ValueError, IndexError):  # it runs, has ended, or may not be looked at
            continue
        try:
            yield from _descriptors(pid, calls.get(number, ""), arguments)
        except (OSError, struct.error):
            continue


def _descriptors(pid: int, call: str, arguments: list[int]) -> Iterator[int]:
    """What a call waits for, from its first arguments as the kernel shows them."""
    first, second = arguments[:2]
    if call == _READ:
        yield first
    elif call == _POLL:
        listed = _memory(pid, first, min(second * 8, _LONGEST_LIST_BYTES))
        yield from (fd for fd, events, _ in struct.iter_unpack("=ihh", listed) if events & 1)
    elif call == _SELECT and second:
        bits = int.from_bytes(_memory(pid, second, min((first + 63) // 64 * 8, _LONGEST_LIST_BYTES)), "little")
        yield from (fd for fd in range(first) if bits >> fd & 1)
    elif call == _EPOLL:
        for line in (_PROC / str(pid) / "fdinfo" / str(first)).read_text().splitlines():
            words = line.split()
            if words[:1] == ["tfd:"] and int(words[3], 16) & 1:
                yield int(words[1])


def _memory(pid: int, address: int, size: int) -> bytes:
    descriptor = os.open(_PROC / str(pid) / "mem", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(descriptor, size, address)
    finally:
        os.close(descriptor)


def _connected(pids: Iterable[int]) -> bool:
    """Whether any of these processes holds a connected socket of the network."""
    sockets: set[str] = set()
    some = None
    for pid in pids:
        try:
            descriptors = os.listdir(_PROC / str(pid) / "fd")
        except OSError:
            continue
        some = pid
        targets = (_target(pid, int(descriptor)) for descriptor in descriptors)
        sockets.update(target[len("socket:[") : -1] for target in targets if target.startswith("socket:["))
    return bool(sockets) and some is not None and any(inode in sockets for inode in _connections(some))


def _connections(pid: int) -> Iterator[str]:
    """The inodes of the connected sockets in the network that a process sees."""
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        try:
            lines = (_PROC / str(pid) / "net" / kind).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 9 and words[3] in _CONNECTED:
                yield words[9]
