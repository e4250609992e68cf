"""The text of a unit of systemd as this program writes it: for whom, by which version, still so or not. Pure."""

import hashlib
import re
from dataclasses import dataclass

# What the packaged unit says, and what stands in its place elsewhere.
USER, ROOT, PROGRAMS = "cloud-code", "/srv/cloud-code", "/opt/cloud-code/bin"
HOME, SETTINGS = "/var/lib/cloud-code", "/etc/cloud-code"
_MARK = re.compile(r"# written by cloud-code (\S+), sha256 ([0-9a-f]{64})\n")


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is known of a unit's text: the version that wrote it, and whether nobody has changed it since."""

    version: str | None
    untouched: bool


def render(text: str, *, user: str, root: str, programs: str) -> str:
    """The packaged unit for this user, this root, and the folder with the programs."""
    text = text.replace(f"{PROGRAMS}/", f"{programs}/")
    text = re.sub(rf"{re.escape(ROOT)}(?![\w-])", root, text)
    return re.sub(rf"^(User|Group)={re.escape(USER)}$", rf"\1={user}", text, flags=re.MULTILINE)


def installed_for(text: str) -> tuple[str | None, str | None]:
    """The user and the root that a unit names, where it names them."""
    user = re.search(r"^User=(\S+)$", text, re.MULTILINE)
    root = re.search(r"^ExecStart=\S+ --root (\S+) run\b", text, re.MULTILINE)
    return user[1] if user else None, root[1] if root else None


def marked(text: str, version: str) -> str:
    """The text under a first line that says who wrote it, and by which a change is seen."""
    return f"# written by cloud-code {version}, sha256 {_digest(text)}\n{text}"


def examine(text: str) -> Written:
    """Who wrote this, and whether it is still as it was written."""
    mark = _MARK.match(text)
    if mark is None:
        return Written(version=None, untouched=False)
    return Written(version=mark[1], untouched=mark[2] == _digest(text[mark.end() :]))


def without_mark(text: str) -> str:
    """What it says, whoever wrote it and by whichever version."""
    return _MARK.sub("", text, count=1)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
