"""What there is of a coding CLI in the place of an agent: its program, version and login, whether it answers."""

import re
import shutil
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.base import About, CliSettings, Progress, RunRequest, Verdict, bare_environment, mask_for
from agent_daemon.clis.mcp import McpError
from agent_daemon.execution import Invocation, ProcessLimits, run_process
from agent_daemon.git import git
from agent_daemon.logins import Lineage, LoginFile, lineages, login_files

PROBE_SECONDS = 60
VERSION_SECONDS = 20
# Below it npm silently takes old versions of some CLIs, whose newer ones ask for it.
LEAST_NODE = 22

_VERSION = re.compile(r"\d+(?:\.\d+){1,3}")
_PROMPT = "This is a test of the connection. Use no tool and change no file. Answer with one word: ready\n"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """What came of one call: `outcome` as of a run, `cost_usd` where the CLI told it."""

    outcome: str
    message: str
    seconds: float
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = None


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One CLI as found. `program` is its path, None when there is none; `wanted` is what was looked for.

    `version` is empty when it does not tell one, `tried` the oldest that is known to work. `login`: the variables
    with its key that are there, the files of a login in its home. `missing` are variables that it is to be passed
    and that are not there. `node` is the version of Node that an npm package runs on, where that is too old.
    `lineages` is None where no key was given to mark them with.
    """

    name: str
    adapter: str
    wanted: str
    program: str | None = None
    version: str = ""
    tried: str = ""
    keys: tuple[str, ...] = ()
    logins: tuple[str, ...] = ()
    lineages: tuple[Lineage, ...] | None = None
    missing: tuple[str, ...] = ()
    node: str = ""
    install: str = ""
    probe: Probe | None = field(default=None)

    @property
    def is_old(self) -> bool:
        """Whether it is older than what was tried."""
        return bool(self.version and self.tried) and _numbers(self.version) < _numbers(self.tried)

    @property
    def login(self) -> str:
        """How it is logged in, in a few words."""
        found = [*self.keys, *(f"login file {name}" for name in self.logins)]
        return ", ".join(found) or "none found"


def look_at(
    settings: CliSettings,
    inherited: Mapping[str, str],
    *,
    probe: bool = False,
    key: bytes | None = None,
    only_logins: bool = False,
) -> Installed:
    """Find a CLI as its workstation would. A `probe`, with this process' environment, is one call of its model.

    With a `key` it is also told which logins it has that are renewed, marked so; `only_logins` starts nothing.
    """
    with tempfile.TemporaryDirectory(prefix="cloud-code-cli-") as folder:
        # A version is asked for in a home that is thrown away: only a probe touches the workstation's.
        environment = bare_environment(replace(settings, home=Path(folder)), inherited)
        home = settings.home if environment["HOME"] == folder else Path(environment["HOME"])
        files = login_files(ADAPTERS[settings.adapter].ABOUT, home, environment)
        found = _found(settings, environment, inherited, files)
        if key is not None:
            given = _given(settings, environment)
            found = replace(found, lineages=lineages(files, key, given=given, home=settings.home))
        if found.program is None or only_logins:
            return found
        version = _version((found.program, *settings.argv[1:]), environment, Path(folder))
        found = replace(found, version=version, node=old_node(found.program, environment, Path(folder)))
    return replace(found, probe=_probe(settings)) if probe else found


def _given(settings: CliSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that it is given by the configuration."""
    return {
        name: environment[name]
        for name in (*settings.environment, *settings.pass_environment)
        if name in environment
    }


def _found(
    settings: CliSettings,
    environment: Mapping[str, str],
    inherited: Mapping[str, str],
    files: tuple[LoginFile, ...],
) -> Installed:
    adapter = ADAPTERS[settings.adapter]
    about = adapter.ABOUT
    wanted = settings.argv[0] if settings.argv else adapter.PROGRAM
    return Installed(
        name=settings.name,
        adapter=settings.adapter,
        wanted=wanted,
        program=shutil.which(wanted, path=environment["PATH"]),
        tried=about.tried,
        keys=tuple(name for name in _key_names(settings, about) if environment.get(name)),
        logins=tuple(file.name for file in files if file.is_there),
        missing=tuple(name for name in settings.pass_environment if not inherited.get(name)),
        install=adapter.INSTALL,
    )


def old_node(program: str, environment: Mapping[str, str], folder: Path) -> str:
    """The version of Node beside a program that npm has installed, where it is below 22; else empty."""
    node = shutil.which("node", path=environment.get("PATH"))
    if node is None or "node_modules" not in Path(program).resolve().parts:
        return ""
    version = _version((node,), environment, folder)
    return version if version and _numbers(version)[0] < LEAST_NODE else ""


def _key_names(settings: CliSettings, about: About) -> tuple[str, ...]:
    chosen = settings.options.get("env_key")
    return tuple(dict.fromkeys((*((chosen,) if chosen else ()), *about.keys)))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _version(argv: tuple[str, ...], environment: Mapping[str, str], folder: Path) -> str:
    """The first thing like a version that it says when it is asked for one."""
    said: list[str] = []
    invocation = Invocation(argv=(*argv, "--version"), cwd=folder, environment=environment)
    limits = ProcessLimits(wall_seconds=VERSION_SECONDS, output_bytes=64 * 1024)
    with tempfile.TemporaryDirectory() as logs:
        run_process(
            invocation,
            limits=limits,
            on_line=lambda _, line: said.append(line),
            stop=threading.Event(),
            log=Path(logs, "version.log"),
        )
    found = _VERSION.search("\n".join(said))
    return found[0] if found else ""


def _probe(settings: CliSettings) -> Probe:
    """One tiny prompt, as the daemon would give it, in an empty repository that is removed afterwards."""
    adapter, events = ADAPTERS[settings.adapter], list[Progress]()
    with tempfile.TemporaryDirectory(prefix="cloud-code-probe-") as name:
        folder = Path(name)
        worktree = folder / "empty"
        git("init", "--quiet", str(worktree), folder=folder)
        prompt_file = folder / "prompt.md"
        prompt_file.write_text(_PROMPT)
        request = RunRequest(
            prompt=_PROMPT, prompt_file=prompt_file, worktree=worktree, settings=settings, max_turns=2
        )
        try:
            invocation = adapter.invocation(request)
        except McpError as error:
            return Probe(outcome="crashed", message=str(error), seconds=0)
        finished = run_process(
            invocation,
            limits=ProcessLimits(wall_seconds=PROBE_SECONDS, output_bytes=4 * 1024 * 1024),
            on_line=lambda stream, line: events.extend(adapter.parse(stream, line)),
            stop=threading.Event(),
            log=folder / "cli.log",
            mask=mask_for(settings, invocation.environment, invocation.secrets),
        )
    return _told(adapter.verdict(finished, events), finished.duration_seconds)


def _told(verdict: Verdict, seconds: float) -> Probe:
    return Probe(
        outcome=verdict.outcome,
        message=verdict.message[:300],
        seconds=round(seconds, 1),
        input_tokens=verdict.usage.input_tokens,
        output_tokens=verdict.usage.output_tokens,
        cost_usd=verdict.usage.cost_usd,
    )
