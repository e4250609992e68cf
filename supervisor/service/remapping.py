"""The steps by which the Docker engine of a host remaps users and leaves the supervisor's be (`core.remap`).

What was changed is written down beside the service's settings, so that `uninstall` takes back that and no more.
"""

import json
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from supervisor.core import remap, unit
from supervisor.errors import CloudCodeError
from supervisor.service.host import Host, call
from supervisor.service.install import read_unit, write_text
from supervisor.service.steps import Step

SETTINGS = "/etc/docker/daemon.json"
KEY, USUAL, USUAL_USER = "userns-remap", "default", "dockremap"
NOTES = f"{unit.SETTINGS}/userns-remap.json"
RESTART = "systemctl restart docker"


@dataclass
class Remapping:
    """One host's. `ask` says whether the engine may be restarted now, `look` what the engine says of itself."""

    host: Host
    ask: Callable[[str], bool]
    look: Callable[[], Mapping[str, Any]] = dict
    _answer: str | None = field(default=None, init=False)

    def steps(self) -> Iterator[Step]:
        """Towards a map; each is done already where it is so, whoever made it so."""
        if self.user == USUAL_USER:
            making = ["useradd", *self.host.prefix, "--system", "--user-group", "--no-create-home", "--shell"]
            making += ["/usr/sbin/nologin", USUAL_USER]
            yield Step(
                what=f"the user {USUAL_USER}, whose numbers those inside of containers become",
                command=" ".join(making),
                is_done=lambda: USUAL_USER in self._numbers("passwd"),
                do=partial(self._make_user, making),
            )
        for name, which in (("subuid", 0), ("subgid", 1)):
            yield Step(
                what=f"/etc/{name}: of {self.user}'s numbers, that of {self.host.user} stays what it is",
                command=f"in /etc/{name}: {self._wanted_words(name, which)}",
                is_done=partial(self._has_hole, name, which),
                do=partial(self._punch, name, which),
            )
        yield Step(
            what=f"{SETTINGS}: the engine remaps users; what else is set there stays",
            command=f'in {SETTINGS}: "{KEY}": "{USUAL}"',
            is_done=lambda: bool(self._settings().get(KEY)),
            do=self._set,
        )
        if self.host.is_this:
            yield self._restart_step("it remaps users", self._remaps)

    def removal_steps(self) -> Iterator[Step]:
        """Away from it again: nothing where `steps` has changed nothing."""
        notes = self._notes()
        if not notes:
            return
        if notes.get("set"):
            yield Step(
                what=f"{SETTINGS}: the engine remaps users no more",
                command=f"in {SETTINGS}: without {KEY}",
                is_done=lambda: self._settings().get(KEY) != USUAL,
                do=self._unset,
            )
        for name in ("subuid", "subgid"):
            if name in notes:
                yield Step(
                    what=f"/etc/{name}: {notes['user']}'s numbers are what they were",
                    command=f"in /etc/{name}: {_words(notes[name]['before']) or 'without its lines'}",
                    is_done=partial(self._is_before, name),
                    kept=partial(self._changed_since, name),
                    do=partial(self._put_back, name),
                )
        if notes.get("made_user"):
            yield Step(
                what=f"the user {USUAL_USER} goes",
                command=f"userdel {USUAL_USER}",
                is_done=lambda: USUAL_USER not in self._numbers("passwd"),
                do=partial(call, "userdel", *self.host.prefix, USUAL_USER),
            )
        if self.host.is_this and (notes.get("set") or "subuid" in notes or "subgid" in notes):
            yield self._restart_step("it remaps users no more", lambda: False)
        yield Step(
            what=f"{NOTES} goes", command=f"rm {NOTES}", do=partial(self.host.at(NOTES).unlink, missing_ok=True)
        )

    # --- what there is --------------------------------------------------------------------------------------

    @property
    def user(self) -> str:
        """Whose lines the engine takes. E_INSTALL_REMAP where that is a number."""
        value = str(self._settings().get(KEY) or USUAL).partition(":")[0]
        if value.isdecimal():
            mend = "Name the user there, or add the lines yourself (docs/workstations.md)."
            raise CloudCodeError("E_INSTALL_REMAP", f"{SETTINGS} names the user {value} by number.", mend)
        return USUAL_USER if value == USUAL else value

    def _settings(self) -> dict[str, Any]:
        text = read_unit(self.host.at(SETTINGS)) or "{}"
        try:
            found = json.loads(text)
        except ValueError as error:
            found = error
        if isinstance(found, dict):
            return found
        why = f": {found}" if isinstance(found, ValueError) else ""
        raise CloudCodeError("E_INSTALL_REMAP", f"{SETTINGS} is no JSON object{why}.", "Mend it first.")

    def _text(self, name: str) -> str:
        return read_unit(self.host.at(f"/etc/{name}")) or ""

    def _has_hole(self, name: str, which: int) -> bool:
        ids = self.host.ids()
        ranges = remap.ranges_of(self._text(name), self.user)
        return ids is not None and remap.outside(ranges, ids[which]) == ids[which]

    def _wanted(self, name: str, which: int) -> tuple[remap.Range, ...]:
        ids = self.host.ids()
        if ids is None:
            raise CloudCodeError("E_INSTALL", f"There is no user {self.host.user}.")
        texts = (self._text("subuid"), self._text("subgid"))
        numbers = [*self._numbers("passwd").values(), *self._numbers("group").values()]
        size = max(remap.USUAL_SIZE, ids[which] + 2)
        start = remap.free_start(texts, numbers, size)
        if theirs := remap.ranges_of(self._text("subuid" if name == "subgid" else "subgid"), self.user):
            start = theirs[0].start  # (root inside is the same number as user and as group)
        try:
            return remap.punched(remap.ranges_of(self._text(name), self.user), ids[which], start)
        except ValueError as error:
            mend = f"Mend the lines of {self.user} in /etc/{name} first (docs/workstations.md)."
            raise CloudCodeError("E_INSTALL_REMAP", f"/etc/{name}: {error}.", mend) from None

    def _wanted_words(self, name: str, which: int) -> str:
        if self.host.ids() is None:
            return f"{self.user}:{remap.USUAL_START}:U, {self.user}:U:1, … (U: the number of {self.host.user})"
        return _words(remap.with_lines("", self.user, self._wanted(name, which)))

    def _numbers(self, name: str) -> dict[str, int]:
        """The users (`passwd`) or groups (`group`) of the host."""
        fields = (line.split(":") for line in self._text(name).splitlines())
        return {field[0]: int(field[2]) for field in fields if len(field) > 2 and field[2].isdecimal()}

    def _notes(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(read_unit(self.host.at(NOTES)) or "{}")
        return found

    def _note(self, **more: Any) -> None:
        notes = {"user": self.user} | self._notes() | more
        write_text(self.host.at(NOTES), json.dumps(notes, indent=2) + "\n", 0o644)

    # --- what is done ---------------------------------------------------------------------------------------

    def _make_user(self, making: list[str]) -> None:
        self._note(made_user=True)
        call(*making)

    def _punch(self, name: str, which: int) -> None:
        text, user = self._text(name), self.user
        wanted = remap.with_lines(text, user, self._wanted(name, which))
        before = self._notes().get(name, {}).get("before", _lines_of(text, user))
        self._note(**{name: {"before": before, "after": _lines_of(wanted, user)}}, restart=True)
        self._write(f"/etc/{name}", wanted)

    def _set(self) -> None:
        self._note(set=True, restart=True)
        self._write(SETTINGS, json.dumps(self._settings() | {KEY: USUAL}, indent=2) + "\n")

    def _unset(self) -> None:
        settings = {name: value for name, value in self._settings().items() if name != KEY}
        self._write(SETTINGS, json.dumps(settings, indent=2) + "\n")

    def _is_before(self, name: str) -> bool:
        notes = self._notes()
        return bool(_lines_of(self._text(name), notes["user"]) == notes[name]["before"])

    def _changed_since(self, name: str) -> str:
        notes = self._notes()
        same = _lines_of(self._text(name), notes["user"]) == notes[name]["after"]
        return "" if same else "somebody changed them since: they stay"

    def _put_back(self, name: str) -> None:
        if not self._changed_since(name):
            notes = self._notes()
            ranges = remap.ranges_of(notes[name]["before"], notes["user"])
            self._write(f"/etc/{name}", remap.with_lines(self._text(name), notes["user"], ranges))

    def _write(self, path: str, text: str) -> None:
        place = self.host.at(path)
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o644
        write_text(place, text, mode)

    # --- the engine -----------------------------------------------------------------------------------------

    def _remaps(self) -> bool:
        """Whether it does, as the files say now."""
        if self._notes().get("restart"):
            return False
        return remap.engine_remaps(self.look())

    def _restart_step(self, what: str, is_done: Callable[[], bool]) -> Step:
        return Step(
            what=f"the engine is restarted: {what}. Images, volumes and containers that it has now stay on the "
            "disk, out of its sight, and are there again once this is taken back",
            command=RESTART,
            is_done=is_done,
            kept=self._why_not_now,
            do=self._restart,
        )

    def _why_not_now(self) -> str:
        """Asked once."""
        if self._answer is None:
            about = self.look()
            running, images = about.get("ContainersRunning", 0), about.get("Images", 0)
            if running:
                self._answer = f"not now, for {running} containers run: end them, then sudo {RESTART}"
            elif not self.ask(f"Restart the Docker engine now? Its {images} images are out of its sight then."):
                self._answer = f"not restarted; when it suits you: sudo {RESTART}"
            else:
                self._answer = ""
        return self._answer

    def _restart(self) -> None:
        if not self._why_not_now():
            call(*RESTART.split())
            if self.host.at(NOTES).exists():
                self._note(restart=False)


def _lines_of(text: str, user: str) -> str:
    return remap.with_lines("", user, remap.ranges_of(text, user))


def _words(lines: str) -> str:
    return ", ".join(lines.split())
