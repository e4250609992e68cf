"""The prompt for the coding CLI: the task's text in marked blocks, rendered from templates."""

import functools
import re
from pathlib import Path

from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    StrictUndefined,
    Undefined,
)

from agent_daemon.protocol.model import MAX_PLAN_BYTES, External, Feedback, TaskingTask

DOCUMENT_PATH = ".cloud-code/document.md"
PLAN_PATH = ".cloud-code/plan.md"
# What a person says, and what it answers; everything else was found wanting.
NOTES = frozenset({"NOTE", "QUESTION", "HANDOFF"})

# The names of the marks around text that others wrote.
BLOCKS = ("task-title", "task-description", "criterion", "paths", "note", "plan", "feedback", "handover")


def render_prompt(
    task: TaskingTask,
    *,
    agent_type: str,
    description: str,
    resumed: bool = False,
    changed: bool = False,
    feedback: tuple[Feedback, ...] = (),
    prompt_folder: str | None = None,
    external: External | None = None,
    conventions: tuple[str, ...] = (),
    has_shell: bool = True,
    handover: str = "",
    handoff_clis: tuple[str, ...] = (),
) -> str:
    """The text that the CLI gets on its standard input.

    `description` is the whole text, which the tasking may hold only clipped. Templates in `prompt_folder`
    come before those of the package: `task.md.j2`, its `parts/…`, and `specialists/<type>.md.j2`. `has_shell`:
    the CLI can call our commands.
    """
    has_folder = prompt_folder is not None and Path(prompt_folder).is_dir()
    environment = _templates(FileSystemLoader(prompt_folder)) if prompt_folder and has_folder else own_templates()
    told = (*task.context.feedback, *feedback)
    specialist = environment.select_template([f"specialists/{agent_type}.md.j2", "specialists/any.md.j2"])
    return environment.get_template("task.md.j2").render(
        task=task,
        specialist=specialist.render(agent_type=agent_type).strip(),
        description=description,
        resumed=resumed,
        changed=changed,
        notes=[item for item in told if item.code in NOTES],
        feedback=[item for item in told if item.code not in NOTES],
        document_path=DOCUMENT_PATH,
        plan_path=PLAN_PATH,
        plan_characters=MAX_PLAN_BYTES,
        external=external or External(),
        conventions=conventions,
        has_shell=has_shell,
        handover=handover,
        handoff_clis=handoff_clis,
    )


@functools.cache
def own_templates() -> Environment:
    """Those of the package, each compiled once: that takes longer than all else about a prompt."""
    return _templates()


def _templates(*first: BaseLoader) -> Environment:
    environment = Environment(
        loader=ChoiceLoader([*first, PackageLoader("agent_daemon", "prompts")]),
        autoescape=False,  # noqa: S701 (the output is plain text for a model, not HTML)
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["block"] = marked_block
    return environment


def marked_block(text: str | Undefined, name: str) -> str:
    """Text that others wrote, between marks; whatever in it may look like such a mark is broken up."""
    names = "|".join(map(re.escape, {*BLOCKS, name}))
    inner = re.sub(rf"[<＜﹤](?=[^\w<>]*(?:{names})\b)", "\\g<0>\u200b", str(text).strip(), flags=re.IGNORECASE)
    return f"<{name}>\n{inner}\n</{name}>"
