"""One workstation as the running supervisor sees it: its file, its signs of life, and what follows of both.

Times are seconds of watching (`core.liveness`).
"""

from dataclasses import dataclass, field, replace

from agent_daemon.protocol.model import WorkstationFile
from supervisor.core.life import Life, Seen, StationState, Wanted
from supervisor.core.liveness import Vitals, observe, pulse
from supervisor.core.schedule import WorkstationView
from supervisor.core.settings import Config, TimingSettings, WorkstationSettings
from supervisor.core.speech import Speech
from supervisor.lasting import Lasting
from supervisor.stations import StationFile

# A file that is refused is told of once in this time, whatever else is written into it.
REFUSAL_QUIET_SECONDS = 60.0


@dataclass
class Station:
    """What `Fleet` keeps of each.

    `disk_bytes` is what it takes by its own word, `too_large` that this is more than it may.
    """

    file: StationFile
    settings: WorkstationSettings
    vitals: Vitals
    life: Life
    refused: str | None = None
    refusal: Lasting = field(default_factory=Lasting)
    current_task: str | None = None
    retired: bool = False
    disk_bytes: int | None = None
    too_large: bool = False
    refusal_told: float = -1e9
    speech: Speech = field(default_factory=Speech)

    @property
    def wanted(self) -> Wanted:
        return "removed" if self.retired else self.file.wanted

    @property
    def moves(self) -> bool:
        """Whether it is configured with another driver than that which started it last."""
        return not self.retired and self.file.driver != self.settings.driver

    @property
    def spent(self) -> bool:
        """Whether it is to be made anew before it gets another task."""
        return self.settings.recreate == "per_task" and self.file.worked

    @property
    def ready(self) -> bool:
        """Whether a task may be given to it now, as far as it is up to itself."""
        at_work = self.file.handle is not None and self.wanted == "running" and not self.moves
        reserved = self.life.stopping or self.life.chores or self.spent or self.too_large
        healthy = self.life.state is not StationState.UNHEALTHY
        return at_work and not reserved and self.speech.understood and healthy

    def lacks_daemon(self, now: float) -> bool:
        """Whether none of its daemons lives, and none is started at once."""
        if self.file.handle is not None or self.life.stopping or self.life.held:
            return False
        return self.wanted != "running" or self.refused is not None or now < self.life.not_before

    def seen(self, now: float, timing: TimingSettings, *, alive: bool, busy: bool) -> Seen:
        """What there is to decide on, with what its driver and its tasks say."""
        return Seen(
            now=now,
            wanted=self.wanted,
            known=self.file.handle is not None,
            alive=alive,
            beaten=self.vitals.beat_at > self.life.started,
            pulse=pulse(self.vitals, timing, now),
            silent_seconds=now - self.vitals.beat_at,
            busy=busy,
            moves=self.moves,
        )

    def view(self, config: Config) -> WorkstationView:
        """As scheduling sees it."""
        return WorkstationView(
            name=self.file.name,
            type=self.file.type,
            trust_domain=self.settings.trust_domain,
            clis=self.settings.clis,
            unstuck={p: config.unstuck_for(p, self.file.type) for p in config.projects},
        )

    def heard(self, sign: WorkstationFile, now: float) -> bool:
        """Its file was read; whether it had been suspect and no longer is."""
        self.current_task = sign.current_task
        self.disk_bytes = sign.disk.total_bytes if sign.disk is not None else None
        before, self.vitals = self.vitals, observe(self.vitals, sign, now)
        if self.vitals is not before:
            self.speech = self.speech.heard(sign.protocol)
        return self.vitals is not before and self.life.state is StationState.UNHEALTHY

    def tells_refusal(self, now: float) -> bool:
        """Its file could not be taken; whether that is to be told (again)."""
        if now - self.refusal_told < REFUSAL_QUIET_SECONDS:
            return False
        self.refusal_told = now
        return True

    def forget_run(self) -> None:
        """What was seen of a coding CLI that has ended is nothing of the next one's."""
        self.vitals = replace(self.vitals, activity=None, quiet_seconds=0.0, input_seconds=0.0)
