"""`cloud-code doctor`: what this host lacks."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import click

from agent_daemon.protocol.paths import Root
from supervisor.app import DRIVERS
from supervisor.cli.forges import check_project
from supervisor.cli.output import json_option, print_json, progress, show, state_text, table, text
from supervisor.cli.place import as_owner
from supervisor.core.settings import Config
from supervisor.doctor import Check, examine, told
from supervisor.logins import check_logins
from supervisor.secrets.examination import check_secrets
from supervisor.service.examination import check_service
from supervisor.workstations.examination import check_docker, check_egress
from supervisor.workstations.local import refuse_under_service


@click.command()
@json_option
@click.pass_context
def doctor(ctx: click.Context, as_json: bool) -> int:
    """Look at this host and this root: what is missing, and the command that mends it.

    Exit code 1 when something is missing without which nothing can work. By root it is looked at as the user whose
    the root is.
    """
    as_owner(ctx.obj)
    with progress("looking at this host and at the repositories"):
        checks = [
            *examine(ctx.obj, check_project, partial(_check_driver, ctx.obj), check_secrets, _check_logins),
            *check_service(ctx.obj),
        ]
    if as_json:
        print_json(checks)
    else:
        rows = [
            (state_text(check.status), check.name, f"{check.detail}" + (f"\n→ {check.mend}" if check.mend else ""))
            for check in checks
        ]
        show(table(("", "WHAT", "FOUND"), [(a, b, text(c, lines=True)) for a, b, c in rows]))
    return 1 if any(check.status == "error" for check in checks) else 0


def _check_logins(root: Root, config: Config) -> Iterator[Check]:
    return check_logins(root, config, lambda kind: DRIVERS[config.workstations[kind].driver](root, config))


def _check_driver(root: Root, config: Config, kind: str) -> Iterator[Check]:
    if config.workstations[kind].driver == "docker":
        yield from check_docker(config, kind)
        yield from check_egress(root, config, kind)
        return

    def look() -> str:
        refuse_under_service(os.environ, Path("/proc/self/cgroup").read_text())
        return "the driver `local` can be used here"

    yield told(f"workstation {kind}", look)
