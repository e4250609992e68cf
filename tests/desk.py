"""The real supervisor of a root in this process, stepped by hand: its workstations rest, so nothing is begun."""

from dataclasses import dataclass
from typing import Any

from supervisor.app import Supervisor
from supervisor.control import new_command
from supervisor.core.commands import CommandAnswer, TaskCommandKind
from supervisor.core.record import TaskRecord
from supervisor.core.states import State
from supervisor.running import note_start
from tests.site import Site, wait_for
from tests.unit.conftest import make_task


@dataclass
class Desk:
    """Use as: `desk.start(); desk.look()`. `restart` forgets everything that is not on disk."""

    site: Site
    supervisor: Supervisor | None = None

    def start(self) -> Supervisor:
        self.site.write_config()
        self.supervisor = Supervisor(self.site.root)
        note_start(self.site.root, self.supervisor.config, self.supervisor.clock.now())
        self.supervisor.recover()
        for name in self.supervisor.fleet.stations:
            self.supervisor.fleet.want(name, "stopped")
        self.look()
        return self.supervisor

    def restart(self) -> Supervisor:
        self.close()
        return self.start()

    def look(self) -> None:
        """One pass of the loop that looks at everything."""
        assert self.supervisor is not None
        loop = self.supervisor.loop
        loop._last_sweep = -1e8
        loop.step(loop.receive(0))

    def see(self, task_id: str, state: State = State.PENDING) -> TaskRecord:
        """Look until the task is in this state."""

        def reached() -> TaskRecord | None:
            self.look()
            task = self.site.record(task_id)
            return task if task is not None and task.state is state else None

        return wait_for(reached, what=f"{task_id} is {state.value}")

    def command(self, kind: TaskCommandKind, task_id: str, **args: Any) -> CommandAnswer:
        """What becomes of a person's command."""
        assert self.supervisor is not None
        command = new_command(kind, task_id, "ada", args)
        return self.supervisor.people.carry_out(self.supervisor.ledger, command)

    def close(self) -> None:
        if self.supervisor is not None:
            self.supervisor.pool.close()
            self.supervisor.events.close()

    def keep(self, stem: str, *, archived: bool = False, **fields: Any) -> TaskRecord:
        """Put the record of `tasks/<stem>.yaml` where the supervisor would have it."""
        for folder in (self.site.root.records, self.site.root.archive):
            folder.mkdir(parents=True, exist_ok=True)
        made = make_task(id=f"demo.{stem}", project="demo", branch=f"cloud-code/{stem}")
        source = made.source.evolve(ref=f"{stem}.yaml", key=f"file:{stem}")
        task = self.site.store.save(made.evolve(**{"source": source, **fields}))
        if archived:
            self.site.store.archive(task)
        return task

    def codes(self) -> list[str]:
        """The codes of everything that was refused."""
        return [event["details"].get("code", "") for event in self.site.events("input.refused")]
