"""Whatever people do with the files in `tasks/`, and whenever the supervisor starts: what counts as a deletion."""

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from supervisor.clock import Clock
from supervisor.core.record import Source
from supervisor.core.settings import Config
from supervisor.forges.task_folder import TaskFolder

GRACE_SECONDS = 10
CONFIG = Config.model_validate(
    {
        "projects": {"acme": {"repository": "/r"}},
        "workstations": {"backend": {"clis": ["codex"]}},
        "timing": {"deletion_grace_seconds": GRACE_SECONDS},
    }
)
STEMS = [f"t{number}" for number in range(6)]


class SteppedClock(Clock):
    seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


class Deletions(RuleBasedStateMachine):
    """The folder as people treat it, and the records that a supervisor keeps of what it is told."""

    @initialize(stems=st.sets(st.sampled_from(STEMS), min_size=2))
    def begin(self, stems: set[str]) -> None:
        self.place = Path(tempfile.mkdtemp())
        self.folder = self.place / "tasks"
        self.folder.mkdir()
        self.sources: dict[str, Source] = {}
        self.absent_since: dict[str, float] = {}
        self.clock = SteppedClock()
        self.restart()
        for stem in stems:
            self.write(stem)
        self.look(3)

    def teardown(self) -> None:
        if hasattr(self, "place"):
            shutil.rmtree(self.place)

    @rule()
    def restart(self) -> None:
        self.tracker = TaskFolder(self.folder, CONFIG, self.clock)
        self.tracker.remember(self.sources.values())
        self.absent_since.clear()

    @rule(stem=st.sampled_from(STEMS))
    def write(self, stem: str) -> None:
        if self.folder.is_dir():
            (self.folder / f"{stem}.yaml").write_text(f"title: {self.clock.seconds}\n")

    @rule(stems=st.sets(st.sampled_from(STEMS), min_size=1))
    def delete(self, stems: set[str]) -> None:
        for stem in stems:
            (self.folder / f"{stem}.yaml").unlink(missing_ok=True)

    @rule(stem=st.sampled_from(STEMS), to=st.sampled_from([".yml", ".yaml"]))
    def rename(self, stem: str, to: str) -> None:
        found = self.folder / f"{stem}{'.yaml' if to == '.yml' else '.yml'}"
        if found.exists():
            found.replace(found.with_suffix(to))

    @rule()
    def move_the_folder(self) -> None:
        away = self.place / "away"
        if self.folder.exists():
            self.folder.rename(away)
        else:
            away.rename(self.folder)

    @rule()
    def keep_nothing(self) -> None:
        """The disk refused to keep what was told."""
        self.tracker.look_again(self.sources.values())

    @rule(times=st.integers(1, 14))
    def look(self, times: int) -> None:
        for _ in range(times):
            self.clock.seconds += 1
            self._look()

    def _look(self) -> None:
        there = self.folder.is_dir()
        for stem in STEMS:
            misnamed = (self.folder / f"{stem}.yml").exists()
            if not there or misnamed or (self.folder / f"{stem}.yaml").exists():
                self.absent_since.pop(stem, None)
            else:
                self.absent_since.setdefault(stem, self.clock.seconds)
        missing = {stem for stem in self._counting() if stem in self.absent_since}
        too_many = len(missing) > 1 and len(missing) * 2 > len(self._counting())
        news = self.tracker.poll()
        for draft in news.drafts:
            self.sources[draft.source.key.removeprefix("file:")] = draft.source
        for key in news.gone:
            assert there and not self.sources[key].held, "what is held is not deleted"
            assert self.clock.seconds - self.absent_since[key] >= GRACE_SECONDS, "absent for the whole grace"
            del self.sources[key]
        assert not (too_many and news.gone), "too many at once are no deletions"
        for key in news.held:
            self.sources[key] = self.sources[key].evolve(held=True)
        assert there or not (news.drafts or news.gone or news.held)

    def _counting(self) -> set[str]:
        return {stem for stem, source in self.sources.items() if not source.held}

    @invariant()
    def nothing_is_forgotten(self) -> None:
        """A file that stays away is in the end deleted or held; one that is there is taken in."""
        if not hasattr(self, "tracker") or not self.folder.is_dir():
            return
        for _ in range(GRACE_SECONDS + 3):
            self.clock.seconds += 1
            self._look()
        for stem in STEMS:
            path = self.folder / f"{stem}.yaml"
            if path.exists():
                assert stem in self.sources and not self.sources[stem].held
            elif not path.with_suffix(".yml").exists() and stem in self.sources:
                assert self.sources[stem].held
        assert self.tracker.settled


Deletions.TestCase.settings = settings(max_examples=40, stateful_step_count=25)
TestDeletions = Deletions.TestCase
