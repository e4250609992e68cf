"""The command `cloud-code`: its commands by name, and what becomes of errors."""

import errno
import gc
import os
import sys
import threading
from typing import Any

import click

from supervisor import __version__
from supervisor.cli.lazy import ROOT_OPTION, Entry, LazyGroup
from supervisor.cli.streams import OutputError, abandon_output, prepare
from supervisor.errors import CloudCodeError
from supervisor.threads import SLOW_WORK

# Every command is registered here, in the order of the listing; `cloud-code COMMAND --help` is its docstring.
COMMANDS = {
    "init": Entry("supervisor.cli.init:init", "Write a commented config.yaml and the folders of a root."),
    "demo": Entry("supervisor.cli.demo:demo", "The whole way, from a task file to a pushed branch, in a minute."),
    "run": Entry("supervisor.cli.run:run", "Run the supervisor of a root, until Ctrl-C or SIGTERM."),
    "status": Entry("supervisor.cli.status:status", "Fleet, tasks, and what waits for a person."),
    "task": Entry("supervisor.cli.task:task", "List, show, add, edit and steer tasks."),
    "project": Entry("supervisor.cli.project:project", "List projects, and check what they lack."),
    "credential": Entry("supervisor.cli.credential:credential", "What agents asked for and were given."),
    "secret": Entry("supervisor.cli.secret:secret", "Keep secrets encrypted in the root, by name."),
    "budget": Entry("supervisor.cli.budget:budget", "What there is to spend, and what is left of it."),
    "workstation": Entry("supervisor.cli.workstation:workstation", "List, stop, start and restart workstations."),
    "drain": Entry("supervisor.cli.drain:drain", "Give out no attempts, so that the fleet comes to rest."),
    "events": Entry("supervisor.cli.events:events", "What happened, oldest first."),
    "check": Entry("supervisor.cli.check:check", "Validate what a person edited, with line and reason."),
    "doctor": Entry("supervisor.cli.doctor:doctor", "What is missing on this host, and what mends it."),
    "schema": Entry("supervisor.cli.schema:schema", "JSON Schema of a file."),
    "gc": Entry("supervisor.cli.gc:gc", "Remove what ended tasks left behind; --dry-run says what and why."),
    "install": Entry("supervisor.cli.service:install", "Make the supervisor a service of systemd on this host."),
    "upgrade": Entry(
        "supervisor.cli.service:upgrade", "Put an upgraded program to work, without touching agents."
    ),
    "uninstall": Entry(
        "supervisor.cli.service:uninstall", "Remove the service; what it made stays, unless purged."
    ),
    "completion": Entry("supervisor.cli.completion:completion", "Print the completion script of a shell."),
}

# What `agent-daemon` does without, and this program does not.
SUPERVISOR_EXTRA = frozenset({"rich", "apscheduler", "github", "gitlab", "uvicorn"})

# Set by the completion script of a shell, which wants words and nothing else.
COMPLETION = "_CLOUD_CODE_COMPLETE"

# Of what a start makes almost nothing is garbage, and a fifth of its time went into looking for some.
GARBAGE_THRESHOLD = 50_000

EXIT_MISTAKE, EXIT_USAGE, EXIT_BUG, EXIT_INTERRUPTED = 1, 2, 3, 130


@click.group(cls=LazyGroup, entries=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--root", **ROOT_OPTION)
@click.version_option(__version__, prog_name="cloud-code")
@click.pass_context
def cli(ctx: click.Context, root: str | None) -> None:
    """Cloud Code turns task files into checked branches, with coding agents that work on this host."""
    from supervisor.cli.place import find_root

    ctx.obj = find_root(root)


def run(arguments: list[str]) -> int:
    """Carry out a command line; returns its exit code."""
    output = sys.stdout
    try:
        result: Any = cli.main(arguments, prog_name="cloud-code", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return EXIT_MISTAKE
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return _reader_left()
    except OutputError as error:
        return _output_failed(error)
    except SystemExit:
        if sys.stdout is not output:  # click has put another in its place: whoever read it had enough
            return _reader_left()
        raise
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in SUPERVISOR_EXTRA:
            return _tell(error, arguments)
        click.echo(f"cloud-code: the package {error.name} is missing.", err=True)
        click.echo("Install it with the extra, in a checkout: pip install '.[supervisor]'", err=True)
        return EXIT_MISTAKE
    except Exception as error:
        if COMPLETION in os.environ:
            return EXIT_MISTAKE  # nothing to offer; the person is in the middle of a line
        return _tell(error, arguments)


def _reader_left() -> int:
    abandon_output()
    return 0


def _output_failed(error: OutputError) -> int:
    abandon_output()
    why = "it is closed" if error.errno == errno.EBADF else error.strerror
    click.echo(f"cloud-code: standard output cannot be written: {why}.", err=True)
    return EXIT_MISTAKE


def _tell(error: Exception, arguments: list[str]) -> int:
    """One sentence for a person's mistake; for anything else a log that can be pasted into an issue."""
    from agent_daemon.protocol.errors import ProtocolError
    from supervisor.cli.bug import write_bug_log
    from supervisor.cli.hidden import hide_in_error
    from supervisor.terminal import plain

    if isinstance(error, CloudCodeError):
        lines = [f"{error.code}: {error.message}", *([error.mend] if error.mend else [])]
    elif isinstance(error, ProtocolError):
        lines = [str(problem) for problem in error.problems]
    elif isinstance(error, OSError) and error.filename is not None:
        lines = _lines_of(error)
    else:
        path = write_bug_log(error, arguments)
        click.echo(
            f"cloud-code: this is a bug: {hide_in_error(plain(f'{type(error).__name__}: {error}'))}\n"
            f"Everything that a report of it needs stands in {path}",
            err=True,
        )
        return EXIT_BUG
    click.echo("cloud-code: " + hide_in_error(plain("\n".join(lines))), err=True)
    return EXIT_MISTAKE


def _lines_of(error: OSError) -> list[str]:
    """A file that cannot be used: which, why, and what to do about it."""
    from supervisor.errors import mend_of

    return [f"{os.fsdecode(error.filename)}: {error.strerror}.", *filter(None, [mend_of(error)])]


def main() -> None:
    """The program `cloud-code`."""
    gc.set_threshold(GARBAGE_THRESHOLD)
    prepare()
    code = run(sys.argv[1:])
    if any(thread.name.startswith(SLOW_WORK) for thread in threading.enumerate()):
        # Slow work that did not end in time is begun anew after the next start, and is not waited for.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    main()
