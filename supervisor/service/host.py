"""The host on which Cloud Code is a service, or a folder that is to become one: users, programs, systemd."""

import contextlib
import os
import pwd
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import supervisor
from supervisor.core import unit
from supervisor.errors import CloudCodeError

UNIT = "cloud-code.service"
UNITS_FOLDER = "/etc/systemd/system"
COMMAND_SECONDS = 180
_PLAIN_PATH, _PLAIN_USER = re.compile(r"/[A-Za-z0-9/._-]+"), re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_BOOTED = Path("/run/systemd/system")  # sd_booted(3)
# What ProtectHome and PrivateTmp hide from the service.
_HIDDEN = tuple(Path(place) for place in ("/home", "/root", "/run/user", "/tmp", "/var/tmp"))  # noqa: S108


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where to install: below `top` (`/`, or where packages are made), for `root`, as `user`."""

    root: Path
    user: str = unit.USER
    top: Path = Path("/")

    @property
    def is_this(self) -> bool:
        """Whether it is the running system, whose systemd can be spoken to."""
        return self.top == Path("/")

    def at(self, path: str | Path) -> Path:
        return self.top / str(path).lstrip("/")

    @property
    def prefix(self) -> list[str]:
        """The option by which `useradd` and its like work on this system."""
        return [] if self.is_this else ["--prefix", str(self.top)]

    @property
    def program(self) -> str:
        """The program as the unit names it: this one, or the usual place where another system is made."""
        return f"{self.programs}/cloud-code"

    @property
    def programs(self) -> str:
        return str(Path(sys.prefix) / "bin") if self.is_this else unit.PROGRAMS

    def ids(self) -> tuple[int, int] | None:
        """The user's number and its group's; None while there is no such user."""
        if self.is_this:
            try:
                found = pwd.getpwnam(self.user)
            except KeyError:
                return None
            return found.pw_uid, found.pw_gid
        for line in _lines(self.at("/etc/passwd")):
            name, _, uid, gid, *_ = line.split(":")
            if name == self.user:
                return int(uid), int(gid)
        return None

    def is_own_user(self) -> bool:
        """Whether the user is one that `install` makes: its home is the service's."""
        if self.is_this:
            return pwd.getpwnam(self.user).pw_dir == unit.HOME
        fields = (line.split(":") for line in _lines(self.at("/etc/passwd")))
        return any(field[0] == self.user and field[5] == unit.HOME for field in fields)

    def groups(self) -> dict[str, list[str]]:
        """Every group, with its members."""
        fields = (line.split(":") for line in _lines(self.at("/etc/group")))
        return {field[0]: field[3].split(",") if field[3] else [] for field in fields if len(field) == 4}

    def refuse(self) -> None:
        """CloudCodeError where it cannot be: E_NEEDS_ROOT, E_NO_SYSTEMD, E_INSTALL_PLACE, E_INSTALL_NAME."""
        if not _PLAIN_PATH.fullmatch(str(self.root)) or not _PLAIN_USER.fullmatch(self.user):
            raise CloudCodeError(
                "E_INSTALL_NAME",
                f"A unit cannot well name the root '{self.root}' and the user '{self.user}'.",
                "A path of letters, digits and /._- is fine, and a user of small letters, digits, _ and -.",
            )
        if any(self.root.is_relative_to(hidden) for hidden in _HIDDEN):
            raise CloudCodeError(
                "E_INSTALL_PLACE",
                f"The service sees no homes: {self.root} is not for it.",
                "Choose another --root.",
            )
        if os.geteuid() != 0:
            raise CloudCodeError(
                "E_NEEDS_ROOT",
                "A service is installed by root: it takes a user, a unit and folders of the system.",
                "Give the same command with sudo; --dry-run shows every step without it.",
            )
        if self.is_this and not _BOOTED.is_dir():
            raise CloudCodeError(
                "E_NO_SYSTEMD",
                "This system was not started by systemd.",
                "Have `cloud-code run` started by what this system has, or run it in tmux.",
            )
        if self.is_this and (place := hidden_from_service((Path(self.program), *program_places()))):
            raise CloudCodeError(
                "E_INSTALL_PLACE",
                f"{place} cannot be used by another user, or not by a service that sees no homes.",
                "Install the package where it can: `sudo python3 -m venv /opt/cloud-code`, then "
                "`sudo /opt/cloud-code/bin/pip install '/path/to/clone[supervisor]'`.",
            )


def start_command(root: Path) -> str:
    """What starts the supervisor of a root: its service where this host has one for it."""
    try:
        text = (Path(UNITS_FOLDER) / UNIT).read_text()
    except OSError:
        return "cloud-code run"
    served = unit.installed_for(text)[1]
    return f"sudo systemctl start {UNIT.removesuffix('.service')}" if served == str(root) else "cloud-code run"


def program_places() -> tuple[Path, ...]:
    """What this program consists of, links followed."""
    return Path(sys.executable).resolve(), Path(supervisor.__file__).resolve().parent


def hidden_from_service(places: Sequence[Path]) -> Path | None:
    """The first of these that another user cannot reach, or that the unit hides; None where all is well."""
    for place in places:
        if any(place.is_relative_to(hidden) for hidden in _HIDDEN):
            return place
        for part in (place, *place.parents):
            with contextlib.suppress(OSError):
                if not part.stat().st_mode & 0o001 and (part.is_dir() or part == Path(sys.executable)):
                    return part
    return None


def call(*argv: str, seconds: float = COMMAND_SECONDS) -> str:
    """Run a program of the system; CloudCodeError E_INSTALL with what it said where it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CloudCodeError("E_INSTALL", f"`{' '.join(argv)}`: {error}.") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}")[-1000:]
        raise CloudCodeError("E_INSTALL", f"`{' '.join(argv)}` failed: {said}")
    return done.stdout


def asked(*argv: str) -> str | None:
    """What a program of the system answers; None where it cannot."""
    try:
        return call(*argv).strip()
    except CloudCodeError:
        return None


def show(name: str = UNIT) -> dict[str, str]:
    """What systemd knows of a unit; nothing where it cannot be asked."""
    wanted = (
        "LoadState,ActiveState,SubState,MainPID,NeedDaemonReload,UnitFileState,Result,NRestarts,ReadWritePaths"
    )
    said = asked("systemctl", "show", name, f"--property={wanted}") or ""
    return dict(line.partition("=")[::2] for line in said.splitlines() if "=" in line)


def as_user(ids: tuple[int, int], work: Callable[[], object]) -> None:
    """Do it with the rights of another user and no others: where that user can write, root must not.

    CloudCodeError E_INSTALL where it fails; what it said is on standard error.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.umask(0o027)
            os.setgroups([])
            os.setresgid(ids[1], ids[1], ids[1])
            os.setresuid(ids[0], ids[0], ids[0])
            work()
            code = 0
        except CloudCodeError as error:
            sys.stderr.write(f"{error}\n")
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        raise CloudCodeError("E_INSTALL", f"Something could not be done as user {ids[0]}: see above.")


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    except OSError:
        return []
