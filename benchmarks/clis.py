"""What the daemon adds to a coding CLI: time, parsing, and how exactly a limit and a stop are kept."""

import contextlib
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent_daemon.acp.telling import Telling
from agent_daemon.clis import ADAPTERS
from agent_daemon.clis.acp import line_of
from agent_daemon.clis.base import RunRequest
from agent_daemon.hiding import Mask
from agent_daemon.protocol.model import CliConfig, Limits, Price
from agent_daemon.request import cli_settings
from benchmarks.figure import Figure, Size
from tests.coding_run import Run
from tests.real_clis import PATCH, Driver, program, stop_in_a_tool

SAMPLES = Path(__file__).parents[1] / "tests" / "samples"
PARSED_BYTES = 4_000_000
KEY = "sk-dummy-0123456789"
STEPS = [{"patch": PATCH}, {"shell": "cat calc.py"}]
# A step of the scripted model reads at least 1,000 tokens: with these prices it costs about a tenth of the limit.
PRICE, LIMIT_USD = Price(input=10.0, output=10.0), 0.1

_COUNTED = {"codex": "codex", "claude-code": "claude"}
_STOPPED = ("codex", "claude", "aider")


def measure(folder: Path, size: Size) -> list[Figure]:
    """The figures of the CLIs that are installed; of the others only the parsers are measured."""
    figures = [*_parsers()]
    for adapter, name in _COUNTED.items():
        if program(name):
            figures += _overhead(folder / f"overhead-{name}", adapter, size.runs)
            figures.append(_overshoot(folder / f"overshoot-{name}", adapter, max(1, size.runs // 3)))
    for name in _STOPPED:
        if program(name):
            figures += _stops(folder / f"stop-{name}", name, max(1, size.runs // 3))
    return figures


# --- parsers ------------------------------------------------------------------------------------------


def _parsers() -> Iterator[Figure]:
    for name in ("aider", "claude-code", "codex"):
        lines = [line for path in sorted((SAMPLES / name).iterdir()) for line in _lines(path)]
        parse = ADAPTERS[name].parse
        yield _speed(f"{name}: parsed", lines, lambda line, parse=parse: parse("stdout", line))
    files = sorted((SAMPLES / "acp").iterdir())
    yield _speed("acp, all profiles: parsed", [line for path in files for line in _lines(path)], _Conversation())
    raw = [
        line for name in ("claude-code", "codex") for path in (SAMPLES / name).iterdir() for line in _lines(path)
    ]
    stream = Mask([KEY, "another-key-0123456789"]).stream()
    yield _speed("two keys looked for in output", raw, lambda line: stream.feed(f"{line}\n".encode()))


def _lines(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()


class _Conversation:
    """Both ways of the protocol's adapter: what was said becomes lines, and those are parsed."""

    def __init__(self) -> None:
        self._telling, self._parse = Telling(), ADAPTERS["gemini"].parse

    def __call__(self, line: str) -> None:
        message = json.loads(line)
        tell = self._telling.sent if message.pop("dir", "<") == ">" else self._telling.received
        for event in tell(message):
            self._parse("stdout", line_of(event))


def _speed(name: str, lines: list[str], take: Callable[[str], object]) -> Figure:
    size = sum(len(line.encode()) + 1 for line in lines)
    rounds = max(1, PARSED_BYTES // size)
    started = time.process_time()
    for _ in range(rounds):
        for line in lines:
            take(line)
    seconds = time.process_time() - started
    note = f"{len(lines)} captured lines of {size / len(lines):.0f} bytes, {rounds} times"
    return Figure(name=name, measured=rounds * size / seconds / 1e6, unit="MB/s", note=note)


# --- beside the bare program --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Cost:
    wall_seconds: float
    cpu_seconds: float


def _overhead(folder: Path, adapter: str, runs: int) -> list[Figure]:
    """In turns: the program alone with the same arguments, and as the daemon runs it."""
    bare: list[_Cost] = []
    ours: list[_Cost] = []
    with _endpoint(folder, "fixes-test") as base_url:
        for number in range(runs + 1):
            turns = [
                lambda number=number: bare.append(_bare(folder / f"bare-{number}", adapter, base_url)),
                lambda number=number: ours.append(_run(folder / f"ours-{number}", adapter, base_url)),
            ]
            for turn in turns if number % 2 else reversed(turns):
                turn()
    del bare[0], ours[0]  # they only warmed the caches
    figures = []
    for what in ("wall", "cpu"):
        alone, with_us = (
            statistics.median(getattr(c, f"{what}_seconds") for c in costs) for costs in (bare, ours)
        )
        note = f"{with_us:.2f} s against {alone:.2f} s, half of {runs} alternating runs of three replies"
        figures.append(
            Figure(name=f"{adapter}: {what} of the bare program", measured=with_us / alone, unit="×", note=note)
        )
    return figures


def _bare(folder: Path, adapter: str, base_url: str) -> _Cost:
    run = _prepared(folder, adapter, base_url)
    prompt_file = folder / "prompt.md"
    request = RunRequest(
        prompt="Fix it.\n", prompt_file=prompt_file, worktree=run.tree, settings=cli_settings(run.attempt)
    )
    invocation = ADAPTERS[adapter].invocation(request)
    key = {"ANTHROPIC_API_KEY": KEY} if adapter == "claude-code" else {}

    def start() -> None:
        with (folder / "cli.log").open("wb") as log:
            subprocess.run(
                invocation.argv,
                cwd=invocation.cwd,
                env=dict(invocation.environment) | key,
                input=invocation.stdin,
                stdout=log,
                stderr=log,
                check=True,
            )

    return _timed(start)


def _run(folder: Path, adapter: str, base_url: str) -> _Cost:
    run = _prepared(folder, adapter, base_url)

    def start() -> None:
        verdict = run.code()
        assert verdict.outcome == "completed", verdict

    return _timed(start)


def _timed(action: Callable[[], None]) -> _Cost:
    def cpu() -> float:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(one.ru_utime + one.ru_stime for one in used)

    cpu_before, started = cpu(), time.perf_counter()
    action()
    return _Cost(time.perf_counter() - started, cpu() - cpu_before)


def _prepared(folder: Path, adapter: str, base_url: str, limits: Limits | None = None) -> Run:
    Driver.in_repository(folder)
    claude = adapter == "claude-code"
    cli = CliConfig(
        name=adapter,
        adapter=adapter,
        argv=(str(program(_COUNTED[adapter])),),
        model="sonnet" if claude else "gpt-5.5",
        environment={"DUMMY_KEY": KEY},
        options={"base_url": base_url.removesuffix("/v1") if claude else base_url, "env_key": "DUMMY_KEY"},
    )
    return Run(folder, cli, limits=limits, prices={"gpt": PRICE, "claude": PRICE, "sonnet": PRICE})


@contextlib.contextmanager
def _endpoint(folder: Path, scenario: str) -> Iterator[str]:
    """The scripted model in a process of its own, so that what it costs is not counted."""
    folder.mkdir(parents=True, exist_ok=True)
    steps = folder / "steps.json"
    steps.write_text(json.dumps(STEPS))
    command = [sys.executable, "-m", "tests.fakes.scripted_model", "--scenario", scenario, "--steps", str(steps)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=SAMPLES.parents[1]) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


# --- limits and stops ---------------------------------------------------------------------------------


def _overshoot(folder: Path, adapter: str, runs: int) -> Figure:
    """A model that goes on for ever, and a limit of cost: what was spent beyond it, in steps of that run."""
    beyond: list[float] = []
    spent: list[float] = []
    with _endpoint(folder, "loop") as base_url:
        for number in range(runs):
            run = _prepared(folder / str(number), adapter, base_url, Limits(cost_usd=LIMIT_USD))
            verdict = run.code()
            assert verdict.outcome == "budget", verdict
            sums = [fields["usage"].cost_usd or 0.0 for fields, _ in run.told if "usage" in fields]
            steps = [after - before for before, after in zip([0.0, *sums], sums, strict=False) if after > before]
            spent.append(max(sums))
            beyond.append(max(0.0, max(sums) - LIMIT_USD) / max(steps))
    note = f"limit {LIMIT_USD} USD, spent at most {max(spent):.3f} USD, most of {runs} endless runs"
    return Figure(name=f"{adapter}: beyond the budget", measured=max(beyond), unit="steps", bar=1, note=note)


def _stops(folder: Path, name: str, runs: int) -> Iterator[Figure]:
    """Stopped while a command of the model has double-forked with setsid."""
    stopped = [stop_in_a_tool(name, folder / str(number)) for number in range(runs)]
    slowest = max(one.seconds for one in stopped)
    note = f"slowest of {runs}; {max(len(one.before) for one in stopped)} processes before"
    yield Figure(name=f"{name}: stop to nothing left", measured=slowest, unit="s", bar=10, note=note)
    left = sum(len(one.after) for one in stopped)
    yield Figure(name=f"{name}: processes left over", measured=left, unit="", bar=0, note=f"after {runs} stops")
