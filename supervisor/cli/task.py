"""`cloud-code task …`: the tasks."""

import click

from supervisor.cli.lazy import Entry, LazyGroup

ENTRIES = {
    "list": Entry("supervisor.cli.task_list:list_tasks", "Tasks, those that move first."),
    "show": Entry("supervisor.cli.task_show:show_task", "Everything known of a task, its request included."),
    "add": Entry("supervisor.cli.task_add:add", "Write a task file."),
    "edit": Entry("supervisor.cli.task_edit:edit", "Edit a task file, and check it afterwards."),
    "retry": Entry("supervisor.cli.task_steer:retry", "Make another attempt, with a note for the agent."),
    "handoff": Entry("supervisor.cli.task_steer:handoff", "Let another coding CLI go on."),
    "cancel": Entry("supervisor.cli.task_steer:cancel", "Give a task up; its work is saved."),
    "pause": Entry("supervisor.cli.task_steer:pause", "Hold a task and free its workstation."),
    "resume": Entry("supervisor.cli.task_steer:resume", "Let a paused task go on."),
    "top-up": Entry("supervisor.cli.task_steer:top_up", "Allow a task to cost more, and let it go on."),
    "answer": Entry("supervisor.cli.task_steer:answer", "Answer what a task asks, or amend its plan."),
    "approve": Entry("supervisor.cli.task_steer:approve", "Approve a plan, held work, or what an agent asks for."),
    "deny": Entry("supervisor.cli.task_steer:deny", "Send such a thing back with a reason."),
    "logs": Entry("supervisor.cli.task_work:logs", "What the coding CLI printed."),
    "packet": Entry("supervisor.cli.task_packet:packet", "What the next attempt is told of those before."),
    "diff": Entry("supervisor.cli.task_work:diff", "What a task's work changes."),
    "salvage": Entry("supervisor.cli.salvage:salvage", "Work that was saved from ended attempts: look, restore."),
    "explain": Entry("supervisor.cli.task_show:explain_task", "Why it is where it is, and what happens next."),
}


@click.group(cls=LazyGroup, entries=ENTRIES)
def task() -> None:
    """List, show, add, edit and steer tasks.

    An ID is a task's whole id, such as acme-app.fix-login, or its end: fix-login.
    """
