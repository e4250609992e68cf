"""Which type of specialist does a task: labels against the routing table."""

from collections.abc import Iterable, Mapping


def route(labels: Iterable[str], routing: Mapping[str, tuple[str, ...]], types: Iterable[str]) -> str:
    """The first configured type, in the order of the routing table, that one of the labels names.

    A label that is itself the name of a type counts. Nothing routed: `planner` where there is one,
    else the first workstation type configured (design §9). `types` are those that serve the project.
    """
    wanted = {label.strip().lower() for label in labels}
    available = list(types)
    for kind, keywords in routing.items():
        if kind in available and wanted & ({kind} | {word.lower() for word in keywords}):
            return kind
    for kind in available:
        if kind in wanted:
            return kind
    return "planner" if "planner" in available else available[0]
