"""What a person's answer came to, in a sentence for whoever gave it."""

from supervisor.core.credentials import sentence
from supervisor.core.record import Approval, TaskRecord
from supervisor.core.states import State


def what_was_decided(before: TaskRecord, after: TaskRecord) -> str:
    """The credentials and approvals that a command decided on; empty where it decided on none."""
    grants = {grant.id: grant.status for grant in before.grants}
    approvals = {approval.id: approval.status for approval in before.approvals}
    said = [sentence(grant) for grant in after.grants if grants.get(grant.id) != grant.status]
    said += [_approval(after, a) for a in after.approvals if approvals.get(a.id) == "pending" != a.status]
    return "; ".join(said)


def _approval(task: TaskRecord, approval: Approval) -> str:
    said = f"{approval.id}: {approval.status}"
    if approval.gate != "plan" or task.state is not State.PENDING:
        return said
    if approval.status == "approved":
        return f"{said}{', with what you said' if approval.why else ''}; the next attempt carries it out"
    hint = "" if approval.why else " (a reason helps: `task deny` takes --reason)"
    return f"{said}; the next attempt plans anew{hint}"
