"""The person's editor, on a file, or on a text that must not reach a disk."""

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from supervisor.errors import CloudCodeError

_EDITORS = ("sensible-editor", "nano", "vim", "vi")
# Memory-backed on Linux: the second one everywhere, the first one for a user with a session.
_IN_MEMORY = ("XDG_RUNTIME_DIR", "/dev/shm")  # noqa: S108 (a private folder is made in it)


def open_editor(path: Path, before: bytes) -> None:
    """Wait until the person has ended the editor; CloudCodeError when there is none or it fails."""
    chosen = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    argv = shlex.split(chosen) if chosen else [next(filter(None, map(shutil.which, _EDITORS)), "")]
    if not argv or not argv[0]:
        raise CloudCodeError("E_NO_EDITOR", "There is no editor.", f"Set $EDITOR, or edit {path} in another way.")
    try:
        done = subprocess.run([*argv, str(path)], check=False)
    except OSError as error:
        raise CloudCodeError("E_NO_EDITOR", f"{argv[0]}: {error.strerror}.", "Set $EDITOR.") from None
    if done.returncode != 0:
        changed = "changed" if path.read_bytes() != before else "not changed"
        raise CloudCodeError(
            "E_EDITOR",
            f"{argv[0]} ended with exit code {done.returncode}; {path} is {changed}.",
            "Set $EDITOR to another editor, or edit the file in another way, then `cloud-code check tasks`.",
        )


def change_in_memory(text: str) -> str:
    """The text after the person has edited it; what the editor writes beside it goes with its folder."""
    with _folder_in_memory() as folder:
        path = folder / "value"
        path.write_text(text)
        open_editor(path, text.encode())
        return path.read_text()


@contextlib.contextmanager
def _folder_in_memory() -> Iterator[Path]:
    from agent_daemon.credentials import is_in_memory

    places = [os.environ.get(place, "") if place.isupper() else place for place in _IN_MEMORY]
    mounts = Path("/proc/self/mounts").read_text(errors="replace")
    usable = (place for place in places if place and os.access(place, os.W_OK | os.X_OK))
    place = next((place for place in usable if is_in_memory(Path(place).resolve(), mounts)), None)
    if place is None:
        mend = "Set it anew instead: `cloud-code secret set NAME`."
        raise CloudCodeError("E_NO_MEMORY_FOLDER", "There is no memory-backed folder, as /dev/shm.", mend)
    with tempfile.TemporaryDirectory(prefix="cloud-code-", dir=place) as folder:
        yield Path(folder)
