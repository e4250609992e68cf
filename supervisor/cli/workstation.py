"""`cloud-code workstation …`: the fleet."""

import click

from supervisor.cli.lazy import Entry, LazyGroup

_PLACE = "supervisor.cli.workstation_commands"
_UPKEEP = "supervisor.cli.workstation_upkeep"
ENTRIES = {
    "build": Entry("supervisor.cli.workstation_build:build", "Build the images that containers are started from."),
    "list": Entry(f"{_PLACE}:list_workstations", "Every workstation, its state and what it does."),
    "status": Entry("supervisor.cli.workstation_status:status", "What each does, and what it uses."),
    "stop": Entry(f"{_PLACE}:stop", "Stop a workstation; its attempt goes on when it is started again."),
    "start": Entry(f"{_PLACE}:start", "Start a workstation that was stopped."),
    "restart": Entry(f"{_PLACE}:restart", "Stop and start a workstation; its attempt goes on."),
    "recreate": Entry(f"{_UPKEEP}:recreate", "Make its container anew once it is idle."),
    "maintain": Entry(f"{_UPKEEP}:maintain", "Trim its caches, once it is idle; as `maintenance` says."),
    "snapshot": Entry(f"{_UPKEEP}:snapshot", "Save its tools, once it is idle."),
    "restore": Entry(f"{_UPKEEP}:restore", "Put the tools of a snapshot back, once it is idle."),
    "shell": Entry("supervisor.cli.workstation_shell:shell", "Take the place of its agent in a shell."),
    "clis": Entry("supervisor.cli.workstation_clis:clis", "Its coding CLIs: program, version, login, a probe."),
    "refused": Entry("supervisor.cli.workstation_refused:refused", "What they were not connected to, and why."),
    "logs": Entry(f"{_PLACE}:logs", "What its daemon logs."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def workstation() -> None:
    """List, stop, start and restart workstations, look after them, and enter them."""
