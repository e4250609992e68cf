"""Reading and writing one report of a kilobyte, beside what PyYAML alone takes."""

import statistics
import time
from collections.abc import Callable

import yaml

from agent_daemon.protocol.codec import decode_framed, encode
from agent_daemon.protocol.model import Reporting, ReportStatus
from benchmarks.crowd import encode_report, make_report
from benchmarks.figure import Figure, Size

CALLS = 200
FASTEST_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
FASTEST_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def measure(size: Size) -> list[Figure]:
    """Milliseconds a call, and the ratio to plain loading or dumping of the same document."""
    data = encode_report("backend-1", "demo.task-1", make_report(1, ReportStatus.IN_PROGRESS), 7)
    report = decode_framed(Reporting, data, file="reporting.yaml")
    plain = yaml.load(data, Loader=FASTEST_LOADER)  # noqa: S506 (a safe loader, from a document of ours)
    times = _medians(
        size.runs,
        lambda: decode_framed(Reporting, data, file="reporting.yaml"),
        lambda: yaml.load(data, Loader=FASTEST_LOADER),  # noqa: S506
        lambda: encode(report, end=True),
        lambda: yaml.dump(plain, Dumper=FASTEST_DUMPER),
    )
    decoding, loading, encoding, dumping = times
    name = FASTEST_LOADER.__name__
    return [
        Figure(
            name="report: decode", measured=decoding, unit="ms", note=f"{len(data)} bytes, checked and validated"
        ),
        Figure(name=f"report: decode, of {name}", measured=decoding / loading, unit="×"),
        Figure(name="report: encode", measured=encoding, unit="ms"),
        Figure(name=f"report: encode, of {FASTEST_DUMPER.__name__}", measured=encoding / dumping, unit="×"),
    ]


def _medians(runs: int, *calls: Callable[[], object]) -> list[float]:
    """Milliseconds of each call; the calls take turns, so that a slow moment hits them all."""
    found: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, times in zip(calls, found, strict=True):
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            times.append(1000 * (time.perf_counter() - started) / CALLS)
    return [statistics.median(times) for times in found]
