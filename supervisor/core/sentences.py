"""An event in plain words, and how much it matters: for the log and for listings."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

from agent_daemon.protocol.model import WaitReason
from agent_daemon.protocol.money import amount
from supervisor.core.answers import WAITED_FOR
from supervisor.core.disk import gibibytes
from supervisor.core.times import duration
from supervisor.core.words import count, size

Level = Literal["INFO", "WARNING", "ERROR"]

_ERRORS = frozenset({"supervisor.bug", "record.damaged", "report.refused", "maintenance.failed"})
# The last word of an event's name, where it tells of something that should not be.
_WARNINGS = frozenset(
    {
        "away",
        "blocked",
        "changed",
        "conflicts",
        "damaged",
        "died",
        "disk_full",
        "upkeep_failed",
        "doubt",
        "failed",
        "held",
        "ignored",
        "interrupted",
        "left_behind",
        "left_out",
        "lost",
        "low",
        "not_given",
        "not_prepared",
        "not_read",
        "not_started",
        "not_stopped",
        "not_told",
        "out_of_memory",
        "outdated",
        "overdue",
        "refused",
        "reminded",
        "renewed",
        "resting",
        "revision_fell",
        "silent",
        "suspect",
        "waits",
    }
)


def level_of(event: str, details: Mapping[str, Any]) -> Level:
    """How much an event matters to a person who reads the log."""
    if event in _ERRORS:
        return "ERROR"
    verb = event.rpartition(".")[2]
    lost = event == "attempt.ended" and details.get("verdict") in ("workstation lost", "claim refused")
    return "WARNING" if verb in _WARNINGS or lost else "INFO"


def subject_of(event: Mapping[str, Any]) -> str:
    """What an event is about: a task, a workstation or a project; empty for the supervisor itself."""
    return str(event.get("task") or event.get("workstation") or event.get("project") or "")


def line(event: Mapping[str, Any]) -> str:
    """An event whole: its name, its subject, its sentence."""
    head = f"{event.get('event', '')} {subject_of(event)}".rstrip()
    said = sentence(event)
    return f"{head}: {said}" if said else head


def sentence(event: Mapping[str, Any]) -> str:
    """What happened, in words that go on from its name and its subject; `event` as in `events.jsonl`."""
    given = event.get("details")
    details = (
        {key: value for key, value in given.items() if value is not None} if isinstance(given, Mapping) else {}
    )
    tell = _WORDS.get(str(event.get("event")))
    values = {key: value for key, value in event.items() if key != "details"} | details
    try:
        return tell(values) if tell is not None else _told(details)
    except (KeyError, TypeError, ValueError):  # another version's event of the same name
        return _told(details)


def _told(details: Mapping[str, Any]) -> str:
    """The details of an event that has no words of its own."""
    if "message" in details:
        return _problem(details)
    return ", ".join(f"{key} {_value(value)}" for key, value in details.items())


def _value(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _problem(values: Mapping[str, Any]) -> str:
    """A problem on one line: file, code, message, what was expected, what to do."""
    line = f":{values['line']}" if values.get("line") else ""
    file = f"{values['file']}{line}: " if values.get("file") else ""
    code = f"{values['code']}: " if values.get("code") else ""
    more = [f"expected {values['expected']}"] if values.get("expected") else []
    more += [str(values["mend"])] if values.get("mend") else []
    place = f" ({values['place']})" if values.get("place") else ""
    return "; ".join([f"{file}{code}{values['message']}{place}", *more])


def _started(v: Mapping[str, Any]) -> str:
    return f"version {v['version']}, process {v['pid']}"


def _place(v: Mapping[str, Any]) -> str:
    return f", process {v['pid']}" if "pid" in v else " in a container"


def _assigned(v: Mapping[str, Any]) -> str:
    start = str(v.get("start_commit") or v["base_commit"])[:12]
    return f"attempt {v['attempt']} goes to {v['workstation']} with {v['cli']}, from {start}"


def _accepted(v: Mapping[str, Any]) -> str:
    work = f"{count(v['files'], 'file')}, {count(v['commits'], 'commit')}"
    return f"the work of attempt {v['attempt']} passed the checks: {work}"


def _conflicts(v: Mapping[str, Any]) -> str:
    where = f" in {_value(v['files'])}" if v["files"] else ""
    return f"the work conflicts with the base branch at {v['base'][:12]}{where}"


def _cli_changed(v: Mapping[str, Any]) -> str:
    why = {
        "quota": f"the quota of {v['from']} is used up",
        "hand_over": f"it is nothing for {v['from']}",
        "not_started": f"{v['from']} cannot be started",
        "recommended": f"{v['from']} recommends it",
        "handoff": f"it is taken from {v['from']}",
    }.get(str(v["rule"]), f"{count(v['failures'], 'attempt')} with {v['from']} failed")
    return f"{why}: {v['to']} takes over" + (", for one try to get it unstuck" if v.get("unstuck") else "")


def _blocked(v: Mapping[str, Any]) -> str:
    until = f" until {v['until']}" if v.get("until") else ""
    return f"it waits for {WAITED_FOR[WaitReason(v['reason'])]}{until}: {v['message']}"


def _failed(v: Mapping[str, Any]) -> str:
    return f"{v['message']}; another attempt in {duration(v['retry_in_seconds'])}"


def _died(v: Mapping[str, Any]) -> str:
    again = f"in {duration(v['restart_in_seconds'])}" if v["restart_in_seconds"] else "at once"
    times = f", {count(v['failures'], 'time')} in a row" if v["failures"] > 1 else ""
    return f"its daemon ended by itself{times}; it is started again {again}"


_CONCERNS = {"input": "waits for somebody to type", "quiet": "neither writes nor works"}


def _reminded(v: Mapping[str, Any]) -> str:
    left = duration(v["interrupted_in_seconds"])
    return f"its CLI {_concern(v)}; it was reminded, and is interrupted in {left} if that stays so"


def _interrupted(v: Mapping[str, Any]) -> str:
    then = "its session goes on then" if v["then"] == "resume" else "attempt {attempt} ends".format_map(v)
    return f"its CLI {_concern(v)}: it is ended, what it made is bundled, {then}"


def _concern(v: Mapping[str, Any]) -> str:
    return f"{_CONCERNS[v['rule']]} for {duration(v['seconds'])} (rule: {v['rule']})"


def _resumed(v: Mapping[str, Any]) -> str:
    return "its CLI was interrupted and goes on" + (", what it had made is bundled" if v["saved"] else "")


def _thing(values: Mapping[str, Any]) -> str:
    """What clean-up speaks of."""
    if values["kind"] == "clone":
        return f"clone of {values['project']}"
    attempt = f", attempt {values['attempt']}" if values.get("attempt") and values["kind"] != "record" else ""
    return f"{values['kind']} of {values['task']}{attempt}"


def _wanted(values: Mapping[str, Any]) -> str:
    """What was asked for."""
    scope = f" ({values['scope']})" if values.get("scope") else ""
    return f"{values['id']}: {values['type']}, {values['access']}{scope}"


def _why(values: Mapping[str, Any]) -> str:
    """What the agent says it needs it for."""
    return f"; it says: {values['reason']}" if values.get("reason") else ""


def _not_connected(v: Mapping[str, Any]) -> str:
    times = f" ({v['count']} times)" if v["count"] > 1 else ""
    if v["kinds"] > 1:
        return f"and more that was not connected{times}, {v['host']} among it"
    return f"not connected{times}: {v['code']}: {v['message']}"


_WHY = {"image": ", for its image has changed", "task": ", after its task", "age": ", for it is a week old"}


def _recreated(v: Mapping[str, Any]) -> str:
    return (
        "it is made anew" + (", its tools too" if v.get("fresh_tools") else "") + _WHY.get(str(v.get("why")), "")
    )


def _maintained(v: Mapping[str, Any]) -> str:
    before, after = v["caches_bytes_before"], v["caches_bytes_after"]
    parts = [f"its caches took {size(before)}" + (f", now {size(after)}" if after != before else "")]
    parts += [f"brought up to date: {_value(v['updated'])}"] if v["updated"] else []
    parts += [f"not brought up to date: {_value(v['not_updated'])}"] if v["not_updated"] else []
    return "; ".join([*parts, *([_saved(v)] if "snapshot" in v else [])])


def _saved(v: Mapping[str, Any]) -> str:
    gone = f"; removed: {_value(v['removed'])}" if v["removed"] else ""
    return f"snapshot {v['snapshot']} is taken, {size(v['bytes'])}{gone}"


def _restored(v: Mapping[str, Any]) -> str:
    other = v.get("other_image")
    told = f"; the image is another one now, that of then is kept as {other}" if other else ""
    return f"its tools are those of snapshot {v['snapshot']}{told}"


def _whose(v: Mapping[str, Any]) -> str:
    """A task's forge, or that of a project where no task is."""
    return f"the forge of {v['project']}, on {v['ref']}" if v.get("ref") else "its forge"


def _where(v: Mapping[str, Any]) -> str:
    return f"{v['ref']} of {v['project']}" if v.get("project") else str(v["ref"])


def _form(form: str) -> Callable[[Mapping[str, Any]], str]:
    return form.format_map


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "supervisor.started": _started,
    "workstation.started": lambda v: f"its daemon was started{_place(v)}",
    "workstation.adopted": lambda v: f"its daemon was found running{_place(v)}",
    "workstation.out_of_memory": lambda v: (
        f"{v['workstation']} ran out of its memory: the kernel ended something in it"
        + (f", {v['times']} times" if "times" in v else "")
    ),
    "engine.away": _form("{message}; its agents are left alone until it is back. {mend}"),
    "clock.set_back": lambda v: f"the clock was set back by {duration(v['seconds'])}: the calendar begins anew",
    "engine.back": _form("the Docker engine answers"),
    "egress.away": _form("{message}. {mend}"),
    "egress.back": _form("the egress proxy runs"),
    "egress.refused": _not_connected,
    "workstation.not_started": _form("its daemon cannot be started: {message}"),
    "workstation.not_stopped": _form("its daemon cannot be ended, which is tried again: {message}"),
    "pool.grown": lambda v: "it is started: " + ("a task waits" if v["why"] == "waiting" else "it is needed"),
    "pool.shrunk": lambda v: (
        f"it goes, for nobody has needed it for {duration(v['idle_seconds'])}; what it holds stays"
    ),
    "workstation.stopping": lambda v: "its daemon is being ended" + (f", for {v['for']}" if "for" in v else ""),
    "workstation.draining": _form("it gets no other task, for {for} is to follow"),
    "workstation.recreated": _recreated,
    "workstation.maintained": _maintained,
    "workstation.saved": _saved,
    "workstation.restored": _restored,
    "workstation.upkeep": _form("{message}"),
    "workstation.disk_full": lambda v: (
        f"E_DISK_LIMIT: it takes {size(v['bytes'])} of the disk, and may take "
        f"{size(v['limit_bytes'])}: it gets no task, and room is made"
    ),
    "workstation.disk_recovered": lambda v: f"it takes {size(v['bytes'])} of the disk now: it gets tasks again",
    "workstation.upkeep_failed": _form("{what} failed: {code}: {message}"),
    "workstation.stopped": _form("its daemon has ended"),
    "workstation.died": _died,
    "workstation.suspect": _form("no sign of life for {silent_seconds} s"),
    "workstation.silent": _form("no sign of life for {silent_seconds} s: it is restarted"),
    "workstation.lost": _form("it is dead now, and was restarted in vain before: its attempt is given up"),
    "workstation.recovered": _form("it gives signs of life again"),
    "task.created": _form("'{title}', for the type {specialist}, priority {priority}"),
    "task.edited": lambda v: f"changed: {_value(v['fields'])}" + (f"; {v['note']}" if v.get("note") else ""),
    "task.assigned": _assigned,
    "task.started": _form("{workstation} works on it"),
    "task.failed": _failed,
    "handoff.ignored": _form("the recommended coding CLI {recommended} is not taken: {message}"),
    "task.blocked": _blocked,
    "task.review": _form("it waits for a merge"),
    "task.completed": _form("{reason}"),
    "task.cancelled": _form("{reason}"),
    "task.rerun": _form("{reason}"),
    "task.rerouted": _form("from the type {from} to {to}"),
    "task.paused": _form("held by {actor}"),
    "task.resumed": _form("it goes on, says {actor}"),
    "task.retried": _form("another attempt, says {actor}"),
    "attempt.reminded": _reminded,
    "attempt.recovered": _form("its CLI shows life again"),
    "attempt.interrupted": _interrupted,
    "attempt.resumed": _resumed,
    "workstation.ignored": _form(
        "it does not interrupt its CLI, {seconds} s after the first sign: it is restarted"
    ),
    "workstation.overdue": _form("it has been at attempt {attempt} for {seconds} s, longer than that may take"),
    "task.cli_changed": _cli_changed,
    "attempt.ended": _form("attempt {attempt}: {verdict}"),
    "claim.accepted": _accepted,
    "claim.refused": lambda v: f"the work of attempt {v['attempt']} is not taken: {_value(v['codes'])}",
    "claim.conflicts": _conflicts,
    "request.conflicts": _conflicts,
    "request.mergeable": _form("it merges with {base_branch} again without a conflict"),
    "mirror.renewed": _form("it was damaged ({reason}) and is replaced; the old one is kept as {aside}"),
    "work.left_behind": _form("what attempt {attempt} left is not saved: {message}; it stays in {worktree}"),
    "attempt.salvaged": _form("what attempt {attempt} left: {message}"),
    "salvage.retried": _form("what could not be saved is tried again, says {actor}"),
    "report.revision_fell": _form("from {from} to {to}: an agent may have meddled, or its daemon lost its files"),
    "work.dropped": _form("what attempt {attempt} left is given up, says {actor}"),
    "work.left_out": _form("the work of attempt {attempt} is not in its start, but beside it: {reason}"),
    "branch.pushed": lambda v: f"{v['branch']} is at {v['head'][:12]} on the remote",
    "request.opened": _form("{url}"),
    "plan.made": _form("attempt {attempt} has planned: {plan} is to be approved"),
    "approval.granted": _form("by {actor}"),
    "approval.denied": _form("by {actor}"),
    "credential.asked": lambda v: f"the agent asks for {_wanted(v)}: a person decides{_why(v)}",
    "credential.granted": lambda v: f"{_wanted(v)}, by {v['actor']}{_why(v)}",
    "credential.denied": lambda v: f"{v['code']}: {_wanted(v)}, by {v['actor']}: {v['message']}",
    "credential.given": lambda v: f"{_wanted(v)} lies ready for attempt {v['attempt']}",
    "credential.not_given": lambda v: f"{_wanted(v)} cannot be given now: {v['code']}: {v['message']}",
    "credential.refreshed": lambda v: (
        f"{_wanted(v)} is {'given anew' if v.get('anew') else 'renewed'}: {v['message']}"
    ),
    "credential.returned": _form("{id}: {message}"),
    "lease.failed": _form("{code}: what agents were given cannot be {what} now, and is tried again: {message}"),
    "lease.works": _form("what agents were given is looked after again"),
    "credential.revoked": lambda v: f"{_wanted(v)} is taken back: {v['message']}",
    "edit.refused": _form("{message}; kept as {kept}"),
    "source.held": _form("{ref} vanished with too many others to be taken for deleted; the task goes on"),
    "source.returned": _form("{ref} is there again"),
    "config.reloaded": _form("it is read again: {message}"),
    "config.refused": _form("it is read again, and cannot be used: the former one stays in force. {message}"),
    "config.restored": _form("config.yaml is again what the supervisor was started with"),
    "worktree.touched": _form(
        "somebody touched the worktree of attempt {attempt}: it is saved again before it goes"
    ),
    "task.topped_up": lambda v: f"{v['actor']} allows it {amount(v['usd'])} USD more",
    "budget.topped_up": lambda v: (
        f"{v['actor']} adds {amount(v['usd'])} USD to {v['budget']}, which has {amount(v['limit_usd'])} now"
    ),
    "budget.day_began": lambda v: f"{v['day']} begins, with new budgets: {_value(v['budgets'])}",
    "disk.low": lambda v: f"{gibibytes(v['free_bytes'])} are free on that of {v['path']}: no attempt begins",
    "disk.recovered": lambda v: (
        f"{gibibytes(v['free_bytes'])} are free on that of {v['path']}: attempts begin again"
    ),
    "fleet.drained": _form("no attempt is given out until somebody undoes that, says {actor}"),
    "fleet.undrained": _form("attempts are given out again, says {actor}"),
    "cleanup.asked": lambda v: f"the {_thing(v)} may go: {v['reason']}",
    "cleanup.removed": lambda v: f"the {_thing(v)} is gone" + (f": {v['reason']}" if v.get("reason") else ""),
    "cleanup.kept": lambda v: f"the {_thing(v)} stays: {v['reason']}",
    "cleanup.doubt": lambda v: f"the {_thing(v)} is left to a person: {v['reason']}",
    "forge.told": lambda v: f"on {_whose(v)}: {v['kind']}" + (f" {v['id']}" if v.get("id") else ""),
    "forge.not_told": lambda v: f"{_whose(v)} does not take the {v['kind']}: {v['code']}: {v['message']}",
    "forge.waits": lambda v: f"to be told on {_whose(v)}, later: {v['code']}: {v['message']}",
    "forge.not_read": _form("the forge of {project} cannot be read, and is asked again: {code}: {message}"),
    "forge.recovered": _form("the forge of {project} can be read again"),
    "trigger.refused": lambda v: f"{v['actor']} asks for a run of {_where(v)}: {v['message']}",
    "command.refused": lambda v: f"a command by {v['actor']} on {_where(v)} is not heeded: {v['message']}",
    "source.changed": _form("{message}; it is held ({approval})"),
    "source.refused": _form("{actor}, who may not steer, changed {ref}: {message}"),
    "request.reviewed": lambda v: f"{v['by']}: {v['verdict']}, {count(v['comments'], 'comment')}",
    "request.checked": lambda v: f"checks of {v['head'][:12]} failed: {_value(v['failed'])}",
    "report.readable": _form("its reports can be read again"),
}
