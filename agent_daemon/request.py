"""What one run of the coding CLI is given: the prompt, and its settings."""

from dataclasses import replace
from pathlib import Path

from agent_daemon.attempt import Attempt
from agent_daemon.clis.base import CliSettings, RunRequest
from agent_daemon.conventions import find_conventions
from agent_daemon.git import identity_environment
from agent_daemon.git_credential import helper_variables
from agent_daemon.going_on import packet_for
from agent_daemon.noting import lay_out
from agent_daemon.prompt import render_prompt
from agent_daemon.protocol.files import write_file
from agent_daemon.protocol.model import CliConfig, Feedback, Identity

# An agent's own git must not ask a server for the content of git-lfs files when it checks something out.
_NO_FETCH = {"GIT_LFS_SKIP_SMUDGE": "1"}

# CLIs whose models edit files and run no command.
_WITHOUT_SHELL = frozenset({"aider"})


def request_for(
    attempt: Attempt, settings: CliSettings, session: str | None, left_usd: float | None
) -> RunRequest:
    """One run of the attempt's CLI, in this session or a new one, its prompt written beside its logs."""
    prompt = render_prompt(
        attempt.task,
        agent_type=attempt.agent_type,
        description=_whole_description(attempt),
        resumed=attempt.resumed and not attempt.changed,
        changed=attempt.changed,
        feedback=_why_interrupted(attempt),
        prompt_folder=attempt.config.prompt_folder,
        external=attempt.external,
        conventions=find_conventions(attempt.places.worktree),
        has_shell=attempt.config.cli.adapter not in _WITHOUT_SHELL,
        handover=packet_for(attempt, session),
        handoff_clis=attempt.config.handoff_clis,
    )
    prompt_file = attempt.places.logs / "prompt.md"
    write_file(prompt_file, prompt.encode(errors="replace"))
    return RunRequest(
        prompt=prompt,
        prompt_file=prompt_file,
        worktree=attempt.places.worktree,
        settings=settings,
        session_id=session,
        max_turns=attempt.task.limits.max_turns,
        cost_usd=left_usd,
        test_command=" && ".join(f"({check.command})" for check in attempt.task.verification),
        plan=attempt.task.phase == "plan",
        marker=attempt.places.marker,
    )


_INTERRUPTED = {
    "input": Feedback(
        code="E_CLI_WAITS",
        message="You were interrupted because something waited for somebody to type, and nobody can.",
        mend="start what asks questions so that it asks none: options like --yes, input from a file or /dev/null",
    ),
    "quiet": Feedback(
        code="E_CLI_QUIET",
        message="You were interrupted because nothing was written and nothing worked for a long time.",
        mend="give what may wait for ever a limit of time, and let long work show what it does",
    ),
}


def _why_interrupted(attempt: Attempt) -> tuple[Feedback, ...]:
    """What an agent is told whose run was ended because it showed no sign of life."""
    asked = attempt.task.interruption
    if not attempt.resumed or asked is None or attempt.known.interruptions < asked.number:
        return ()
    return tuple(filter(None, [_INTERRUPTED.get(asked.rule)]))


def _whole_description(attempt: Attempt) -> str:
    """The text of `description.md` where the tasking holds only its beginning."""
    if attempt.task.description_sha256 is None:
        return attempt.task.description
    try:
        return (attempt.places.inbox / "description.md").read_text(errors="replace")
    except FileNotFoundError:
        return attempt.task.description


def cli_settings(attempt: Attempt) -> CliSettings:
    """The adapter's form of the configured CLI, with the home that this workstation keeps for it."""
    homes = attempt.places.homes
    settings = settings_of(attempt.config.cli, attempt.config.identity, homes)
    granted = attempt.given.environment()
    granted |= helper_variables(attempt.given.git_hosts(), settings.environment)
    given = {**settings.environment, **granted}
    return replace(settings, environment=given, commands=lay_out(homes / ".bin"), granted=frozenset(granted))


def settings_of(cli: CliConfig, identity: Identity, homes: Path) -> CliSettings:
    """The adapter's form of a CLI. The identity lets it commit its steps: its home has no configuration of git."""
    return CliSettings(
        name=cli.name,
        adapter=cli.adapter,
        argv=cli.argv,
        model=cli.model or "",
        arguments=cli.arguments,
        environment=identity_environment(identity) | _NO_FETCH | cli.environment,
        pass_environment=cli.pass_environment,
        prompt=cli.prompt,
        success_exit_codes=cli.success_exit_codes,
        mcp=cli.mcp,
        home=homes / cli.name,
        options=cli.options,
    )
