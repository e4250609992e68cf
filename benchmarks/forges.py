"""What projects on GitHub and GitLab cost in requests, and how soon an issue is taken up: against stand-ins."""

import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import yaml

from agent_daemon.protocol.paths import TASKING, Root
from benchmarks.crowd import station_names
from benchmarks.figure import Figure, Size, percentile, tell
from benchmarks.processes import cpu_seconds, running_supervisor, stand_ins
from supervisor.mail import Mail
from tests.fakes.forge.github import GitHub
from tests.fakes.forge.gitlab import DEVELOPER, GitLab
from tests.fakes.forge.secondary import SecondaryLimit
from tests.fakes.forge.server import Exchange, Forge
from tests.forge_site import FIX, PROJECT, REPO, forge_site
from tests.site import make_remote, wait_for

LABEL, BOT, SECRET = "cloud-code", "cloud-code-bot", "a-secret-of-the-hook"
LOOK_SECONDS = 0.002
# The longest wait for anything; a part has at most five.
TIMEOUT_SECONDS = 90
FAR_AWAY_SECONDS = 86_400
LONG_AGO = "2026-01-01T00:00:00Z"
# Edits of the story are bounded by time, and the labels of a project are made once.
STORY_EDITS = (("PATCH", r"/issues/comments/\{comment\}$"), ("PUT", r"/issues/\{iid\}/notes/\{note\}$"))
LABELS_MADE = (("GET", r"(name|id)\}/labels$"), ("POST", r"(name|id)\}/labels$"))


def measure(folder: Path, size: Size) -> list[Figure]:
    """One after the other, each with stand-ins and a root of its own; each tells when it begins and ends."""
    parts: dict[str, Callable[[Path], list[Figure]]] = {
        "quiet projects": lambda at: measure_quiet(at, size),
        "taking up by polls": lambda at: measure_taking_up(at, size, webhook=False),
        "taking up by webhooks": lambda at: measure_taking_up(at, size, webhook=True),
        "many issues at once": lambda at: measure_crowd(at, size),
        "one task alone": measure_one_task,
    }
    folder.mkdir(exist_ok=True)
    return [
        figure
        for name, part in parts.items()
        for figure in _measure_part(name, part, folder / name.replace(" ", "-"))
    ]


def _measure_part(name: str, part: Callable[[Path], list[Figure]], folder: Path) -> list[Figure]:
    """One that does not come through in its time is a figure that misses its bar, and the others are measured."""
    tell(f"forges: {name} …")
    started = time.monotonic()
    try:
        figures = part(folder)
    except (AssertionError, TimeoutError, OSError) as error:
        why = str(error).partition("\n")[0][:200] or type(error).__name__
        figures = [Figure(name=f"{name}: stopped", measured=time.monotonic() - started, unit="s", bar=0, note=why)]
    shown = ", ".join(f"{figure.measured:.3g} {figure.unit}" for figure in figures if figure.bar is not None)
    tell(f"forges: {name} took {time.monotonic() - started:.0f} s: {shown}")
    return figures


# --- projects where nothing happens ---------------------------------------------------------------------


def measure_quiet(folder: Path, size: Size) -> list[Figure]:
    """Projects on both forges, each with one old issue; the first cycle reads, the others find nothing new."""
    count, cycles, interval = size.forge_projects, size.forge_cycles, size.forge_quiet_poll_seconds
    remote = make_remote(folder / "remote.git", {"app.py": "1\n"})
    names = [f"acme/app-{number}" for number in range(count)]
    with GitHub() as hub, GitLab() as lab:
        _open(hub, names, remote)
        _open(lab, names, remote)
        projects = {
            f"{kind}-{number}": _project(kind, forge, name, interval)
            for kind, forge in (("github", hub), ("gitlab", lab))
            for number, name in enumerate(names)
        }
        root = _make_root(folder, projects)
        with stand_ins(root, Size(workstations=1)), running_supervisor(root) as supervisor:
            _wait(lambda: len(_kept(root)) == len(projects), "a first cycle")
            heard = {forge: (len(forge.journal), forge.points()) for forge in (hub, lab)}
            processor, started = cpu_seconds(supervisor.pid), time.monotonic()
            _wait(
                lambda: min(_reads(forge, names, before) for forge, (before, _) in heard.items()) >= cycles,
                "the cycles after the first",
                2 * cycles * interval + 30,
            )
            processor = (cpu_seconds(supervisor.pid) - processor) / (time.monotonic() - started)
            figures = []
            for what, forge in (("GitHub", hub), ("GitLab", lab)):
                before, points = heard[forge]
                requests, lists = len(forge.journal) - before, len(_lists(forge, before))
                figures.append((what, round(requests * count / lists), forge.points() - points))
    (_, on_hub, charged), (_, on_lab, whole) = figures
    return [
        Figure(
            name=f"{count} quiet projects, GitHub: points charged",
            measured=charged,
            unit="points",
            bar=0,
            note=f"{cycles} cycles after the first",
        ),
        Figure(
            name="… requests a cycle", measured=on_hub, unit="requests", bar=count, note="all answered with 304"
        ),
        Figure(
            name=f"{count} quiet projects, GitLab: requests a cycle",
            measured=on_lab,
            unit="requests",
            bar=2 * count,
            note=f"{whole} not answered with 304; GitLab counts those too",
        ),
        Figure(
            name=f"{2 * count} quiet projects: processor",
            measured=100 * processor,
            unit="%",
            note=f"of a core, asked every {interval:g} s: with the usual 30 s a part of that",
        ),
    ]


def _kept(root: Root) -> list[str]:
    """The projects that have been read: how far stands in a file then."""
    return os.listdir(root.projects) if root.projects.is_dir() else []


def _lists(forge: Forge, since: int) -> list[Exchange]:
    """The reads of the list that each poll begins with."""
    with forge.lock:
        journal = forge.journal[since:]
    return [e for e in journal if e.method == "GET" and e.template.endswith(("{name}/issues", "{id}/issues"))]


def _reads(forge: Forge, names: Sequence[str], since: int) -> int:
    """How often the project that was read least was read since then."""
    found = Counter(exchange.path for exchange in _lists(forge, since))
    return min(found.values()) if len(found) == len(names) else 0


# --- from a label to the tasking ------------------------------------------------------------------------


def measure_taking_up(folder: Path, size: Size, *, webhook: bool) -> list[Figure]:
    """Issues labelled at random moments, until the workstation has its tasking.

    With a webhook the poll comes too late for any of them.
    """
    count, interval = size.forge_issues, size.forge_poll_seconds
    with _one_project(folder, FAR_AWAY_SECONDS if webhook else interval, 1 + count, webhook=webhook) as (
        hub,
        root,
    ):
        numbers = [hub.open_issue(REPO, "ada", f"Fix number {number}") for number in range(1 + count)]
        stand_in_size = Size(workstations=1 + count)
        with stand_ins(root, stand_in_size), running_supervisor(root):
            if webhook:
                port = yaml.safe_load(root.config.read_text())["webhooks"]["port"]
                _wait(lambda: _is_heard(port), "a receiver of webhooks")
                hub.hooks.append((f"http://127.0.0.1:{port}/hooks/hub", SECRET))
            else:
                _wait(lambda: _kept(root), "a first poll")
            _seconds_until_tasked(hub, root, numbers[:1], 0)  # (the mirror is made)
            seconds = _seconds_until_tasked(hub, root, numbers[1:], max(count, 4 * size.forge_poll_seconds))
    slowest = f"{count} issues, half within {percentile(seconds, 50):.2f} s, the slowest {max(seconds):.2f} s"
    return [
        Figure(
            name="label → tasking.yaml, " + ("webhook" if webhook else f"polled every {interval:g} s") + ": 95 %",
            measured=percentile(seconds, 95),
            unit="s",
            bar=1 if webhook else interval + 1,
            note=slowest,
        )
    ]


def _seconds_until_tasked(hub: GitHub, root: Root, numbers: Sequence[int], spread_seconds: float) -> list[float]:
    """Label these at random moments, and watch the mail folders."""
    chance, found = random.Random(1), []
    started = time.monotonic()
    coming = sorted((started + chance.uniform(0, spread_seconds), number) for number in numbers)
    waiting: dict[int, float] = {}
    deadline = started + spread_seconds + TIMEOUT_SECONDS
    while coming or waiting:
        assert time.monotonic() < deadline, f"no tasking for {sorted(waiting)}"
        while coming and coming[0][0] <= time.monotonic():
            _, number = coming.pop(0)
            waiting[number] = time.monotonic()
            hub.add_label(REPO, number, "ada", LABEL)
        for number in [number for number in waiting if _is_tasked(root, number)]:
            found.append(time.monotonic() - waiting.pop(number))
        time.sleep(LOOK_SECONDS)
    return found


def _is_tasked(root: Root, number: int) -> bool:
    return any(
        os.path.exists(root.attempt_in(station, f"hub.{number}", 1) / TASKING) for station in os.listdir(root.mail)
    )


# --- many at once ---------------------------------------------------------------------------------------


def measure_crowd(folder: Path, size: Size) -> list[Figure]:
    """Many issues labelled at once, until each has its record, and on through the minute that the limits count."""
    count = size.forge_crowd
    with _one_project(folder, size.forge_poll_seconds, 1) as (hub, root):
        hub.secondary = limit = SecondaryLimit()
        with stand_ins(root, Size(workstations=1)), running_supervisor(root):
            _wait(lambda: _kept(root), "a first poll")
            started = _label_at_once(hub, count)
            _wait(lambda: len(os.listdir(root.records)) >= count, "the records")
            taken = time.monotonic() - started
            time.sleep(max(0, started + size.forge_watched_seconds - time.monotonic()))
            refused, most, told = limit.refused, dict(limit.most), _stories(hub)
    note = "; ".join(f"{most_seen} {name}" for name, most_seen in most.items())
    return [
        Figure(
            name=f"{count} issues labelled at once: all have records",
            measured=taken,
            unit="s",
            bar=size.forge_poll_seconds + 10,
            note=f"polled every {size.forge_poll_seconds:g} s",
        ),
        Figure(
            name="… refused by the secondary limit",
            measured=refused,
            unit="requests",
            bar=0,
            note=f"watched for {size.forge_watched_seconds:g} s; at most {note}",
        ),
        Figure(name="… have their stories by then", measured=told, unit="issues"),
    ]


def _label_at_once(hub: GitHub, count: int) -> float:
    with hub.lock:
        for number in range(count):
            hub.open_issue(REPO, "ada", f"Fix number {number}", "It is wrong.", labels=[LABEL])
    return time.monotonic()


def _stories(hub: GitHub) -> int:
    with hub.lock:
        return sum(comment["by"] == BOT for comment in hub.repos[REPO]["comments"].values())


# --- one task alone -------------------------------------------------------------------------------------


def measure_one_task(folder: Path) -> list[Figure]:
    """From its label to the merge, told: one task on each forge, and nothing else."""
    folder.mkdir()
    check = {"name": "fixed", "command": "grep -q 'a + b' calc.py"}
    with forge_site(folder) as made:
        site, hub, lab = made.site, made.hub, made.lab
        site.config["workstations"]["backend"]["count"] = 2
        site.use_script("cat > /dev/null", "sleep 12", FIX)
        for name in ("hub", "lab"):
            made.project(name, poll_interval_seconds=10, verification=[check])
        site.write_config()
        site.start()
        _wait(lambda: len(_kept(site.root)) == 2, "a first poll")
        before = {forge: len(forge.journal) for forge in (hub, lab)}
        one, two = made.labelled(), lab.open_issue(PROJECT, "rea", "Fix the sum", "It subtracts.")
        lab.add_label(PROJECT, two, "ada", LABEL)
        for task in (f"hub.{one}", f"lab.{two}"):
            site.wait_state(task, "review", timeout_seconds=TIMEOUT_SECONDS)
        _wait(lambda: all(_is_ready(said) for said in (made.said(one), made.noted(two))), "the stories")
        hub.merge(REPO, made.request_of(f"hub.{one}"), "ada")
        lab.merge(PROJECT, made.request_of(f"lab.{two}"), "ada")
        _wait(lambda: site.store.is_archived(f"hub.{one}") and site.store.is_archived(f"lab.{two}"), "the merges")
        journals = {what: forge.journal[before[forge] :] for what, forge in (("GitHub", hub), ("GitLab", lab))}
    return [figure for what, journal in journals.items() for figure in told_of(what, journal)]


def _is_ready(said: Sequence[str]) -> bool:
    return any("Ready for review" in text for text in said)


def told_of(what: str, journal: Sequence[Exchange]) -> Iterator[Figure]:
    """The calls that count, and beside them those that do not."""
    edits = [e for e in journal if _is_one(e, STORY_EDITS)]
    made = [e for e in journal if _is_one(e, LABELS_MADE)]
    unchanged = [e for e in journal if not e.charged]
    counted = [e for e in journal if e.charged and e not in edits and e not in made]
    note = (
        f"besides: {len(unchanged)} that found nothing new, {len(edits)} edits of the story, "
        f"{len(made)} for the project's labels"
    )
    yield Figure(name=f"calls for a task, {what}", measured=len(counted), unit="calls", bar=25, note=note)
    kinds = Counter(f"{e.method} {_short(e.template)}" for e in counted)
    for kind, count in sorted(kinds.items(), key=lambda entry: (-entry[1], entry[0])):
        yield Figure(name=f"… {kind}", measured=count, unit="calls")


def _is_one(exchange: Exchange, kinds: Iterable[tuple[str, str]]) -> bool:
    return any(
        exchange.method == method and re.search(template, exchange.template) is not None
        for method, template in kinds
    )


def _short(template: str) -> str:
    return re.sub(r"^/(repos/\{owner\}/\{name\}|projects/\{id\})", "", template)


# --- what they are measured with ------------------------------------------------------------------------


def _wait(condition: Callable[[], Any], what: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
    wait_for(condition, timeout_seconds, what)


def _open(forge: GitHub | GitLab, names: Sequence[str], remote: Path) -> None:
    """Repositories that share one on disk, each with an issue that nobody has touched for long."""
    if isinstance(forge, GitHub):
        for name in names:
            forge.add_repository(name, remote)
        forge.add_person(BOT, "token", dict.fromkeys(names, "write"))
        forge.add_person("ada", permissions=dict.fromkeys(names, "write"))
    else:
        for name in names:
            forge.add_project(name, remote)
        forge.add_person(BOT, "token", dict.fromkeys(names, DEVELOPER))
        forge.add_person("ada", levels=dict.fromkeys(names, DEVELOPER))
    entries = forge.repos if isinstance(forge, GitHub) else forge.projects
    for name in names:
        number = forge.open_issue(name, "ada", "An old one")
        entries[name]["issues"][number]["updated_at"] = LONG_AGO


def _project(kind: str, forge: Forge, repository: str, interval: float) -> dict[str, Any]:
    return {
        "forge": kind,
        "repository": repository,
        "url": forge.origin,
        "auth": {"token": {"file": "token"}},
        "base_branch": "main",
        "poll_interval_seconds": interval,
    }


def _make_root(folder: Path, projects: dict[str, Any], stations: int = 1, **more: Any) -> Root:
    """The workstations are those of `stand_ins`, which take nothing up."""
    root = Root(folder / "root")
    root.tasks.mkdir(parents=True)
    root.workstations.mkdir(parents=True)
    for name in station_names(Size(workstations=stations)):
        Mail(root).prepare_folders(name)
    for name, secret in (("token", "token"), ("hook", SECRET)):
        (root.path / name).write_text(secret)
        (root.path / name).chmod(0o600)
    config = {
        "version": 1,
        "projects": projects,
        "workstations": {"backend": {"driver": "local", "count": stations, "clis": ["scripted"]}},
        "clis": {"scripted": {"adapter": "command", "argv": ["true"]}},
        "timing": {"assign_timeout_seconds": FAR_AWAY_SECONDS},
        **more,
    }
    root.config.write_text(yaml.safe_dump(config))
    return root


@contextmanager
def _one_project(
    folder: Path, interval: float, stations: int, *, webhook: bool = False
) -> Iterator[tuple[GitHub, Root]]:
    """A stand-in for GitHub with one repository, and a root whose project `hub` is there."""
    remote = make_remote(folder / "remote.git", {"app.py": "1\n"})
    with GitHub() as hub:
        _open(hub, [REPO], remote)
        project = _project("github", hub, REPO, interval)
        if webhook:
            heard = {"webhooks": {"port": _free_port()}}
            yield (
                hub,
                _make_root(
                    folder, {"hub": project | {"webhook": {"secret": {"file": "hook"}}}}, stations, **heard
                ),
            )
        else:
            yield hub, _make_root(folder, {"hub": project}, stations)


def _free_port() -> int:
    """One that nobody listened on just now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        number: int = found.getsockname()[1]
        return number


def _is_heard(port: int) -> bool:
    with closing(socket.socket()) as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
