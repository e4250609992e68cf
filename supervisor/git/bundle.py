"""The header of a git bundle, read without git; pure."""

import re
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from agent_daemon.protocol.errors import Problem, ProtocolError
from supervisor.git.names import is_branch, is_sha

SIGNATURE = b"# v2 git bundle\n"
MAX_HEADER_BYTES = 64 * 1024
MAX_PREREQUISITES = 64
_PREREQUISITE = re.compile(rb"-([0-9a-f]{40})(?: .*)?")


class Rejected(ProtocolError):  # noqa: N818 (it is a verdict, not a fault)
    """A bundle that is not taken; `problems` says why, in words for the one who made it."""


@dataclass(frozen=True, kw_only=True)
class BundleHeader:
    """What stands before the pack; `offset` is where the pack begins, `objects` how many it says it holds."""

    prerequisites: tuple[str, ...]
    refs: tuple[tuple[str, str], ...]
    offset: int
    objects: int

    @property
    def tip(self) -> str:
        return self.refs[0][0]


def refuse(code: str, message: str, *, place: str = "", expected: str = "", mend: str = "") -> Rejected:
    """The refusal of a result for one reason."""
    return Rejected(
        Problem(code=code, message=message, file="result.bundle", place=place, expected=expected, mend=mend)
    )


def parse_header(data: bytes | BinaryIO) -> BundleHeader:
    """Read the header: version 2, one branch, at most 64 prerequisites and 64 KiB.

    Rejected: E_BUNDLE_HEADER, E_BUNDLE_REFS.
    """
    stream = BytesIO(data) if isinstance(data, bytes) else data
    head = stream.read(MAX_HEADER_BYTES)
    if not head.startswith(SIGNATURE):
        raise _broken("it does not begin as a bundle of version 2")
    # The empty line that ends the header cannot be the signature's own line end.
    end = head.find(b"\n\n", len(SIGNATURE) - 1)
    if end < 0:
        raise _broken(f"its header has no end within {MAX_HEADER_BYTES} bytes")
    offset = end + 2
    prerequisites: list[str] = []
    refs: list[tuple[str, str]] = []
    for line in head[len(SIGNATURE) : end].split(b"\n") if end >= len(SIGNATURE) else []:
        if line.startswith(b"-") and not refs:
            match = _PREREQUISITE.fullmatch(line)
            if match is None:
                raise _broken("a line of its header is not a prerequisite")
            prerequisites.append(match[1].decode())
        else:
            refs.append(_ref(line))
    if len(prerequisites) > MAX_PREREQUISITES:
        raise _broken(f"it names more than {MAX_PREREQUISITES} prerequisites")
    if len(refs) != 1:
        raise _wrong_refs(f"it holds {len(refs)} refs")
    return BundleHeader(
        prerequisites=tuple(dict.fromkeys(prerequisites)),
        refs=tuple(refs),
        offset=offset,
        objects=_objects((head[offset:] + stream.read(12))[:12]),
    )


def _ref(line: bytes) -> tuple[str, str]:
    try:
        sha, _, name = line.decode("utf-8").partition(" ")
    except UnicodeDecodeError:
        raise _broken("a line of its header is not UTF-8") from None
    if not is_sha(sha):
        raise _broken("a line of its header names no object")
    if not name.startswith("refs/heads/") or not is_branch(name.removeprefix("refs/heads/")):
        raise _wrong_refs("it holds a ref that is not a branch")
    return sha, name


def _objects(pack: bytes) -> int:
    if len(pack) < 12 or pack[:4] != b"PACK" or int.from_bytes(pack[4:8], "big") not in (2, 3):
        raise _broken("no pack follows its header")
    return int.from_bytes(pack[8:12], "big")


def _broken(why: str) -> Rejected:
    return refuse(
        "E_BUNDLE_HEADER",
        f"The bundle cannot be read: {why}.",
        expected="the output of `git bundle create --version=2`",
        mend="Write the bundle again.",
    )


def _wrong_refs(why: str) -> Rejected:
    return refuse(
        "E_BUNDLE_REFS",
        f"The bundle must hold one branch, but {why}.",
        expected="one ref below refs/heads/",
        mend="Bundle the task's branch and nothing else.",
    )
