"""`scorehouse rebuild`: has the analysis apply results anew, and shows how far it and the feed have come."""

import json
from collections import deque
from dataclasses import dataclass, field
from time import monotonic, sleep

from rich.progress import Progress, TaskID, TextColumn

from scorehouse.blocking import Scorehouse
from scorehouse.calls import ScorehouseError
from scorehouse.retries import Retries
from scorehouse.terminal import INTERRUPTED, Waits, bare_bar, complain, count, err, out, say
from shared.rebuilds import RebuildState

LOOK_EVERY_S = 0.5
LINE_EVERY_S = 5.0
"""How often a line is printed where there is no terminal for a bar."""
WINDOW_S = 15.0
"""The time over which a rate is taken."""
TROUBLE_S = 3.0
"""For how long nothing must have moved before it is told what stands in the way: the service tries again by itself."""


@dataclass(frozen=True, slots=True)
class RebuildOptions:
    """What the user chose."""

    analysis_url: str | None
    benchmark: str | None = None
    only_watch: bool = False
    patience_s: float = 60
    """Seconds for which a service may be away, or nothing may move."""
    as_json: bool = False


class Stuck(Exception):
    """Nothing has moved for too long; the message says why."""


def run_rebuild(options: RebuildOptions) -> int:
    """Begin a rebuild unless it is only watched, and look on; the exit code, 0 when all is applied."""
    waits = Waits(err(), options.patience_s)
    began, course = monotonic(), Course()
    retries = Retries(patience_s=options.patience_s)
    try:
        with Scorehouse(None, options.analysis_url, retries=retries, on_wait=waits.tell) as house:
            state = house.rebuild_state() if options.only_watch else house.begin_rebuild(options.benchmark)
            course.look(state, monotonic())
            if not options.only_watch:
                say(
                    err(),
                    f"applying {count(state.outdated, 'result')} anew; answers stay right meanwhile, and it goes on "
                    "without this command",
                )
            _look_on(house, course, waits, options.patience_s)
    except KeyboardInterrupt:
        complain("interrupted; applying goes on in the service. See it with 'scorehouse rebuild --watch'")
        return INTERRUPTED
    except ScorehouseError as error:
        hint = "; 'rebuild' needs an API key with the scope admin" if error.status in (401, 403) else ""
        complain(f"{error}{hint}")
        return 1
    except Stuck as stuck:
        complain(str(stuck))
        _tell(course, monotonic() - began, options)
        return 1
    _tell(course, monotonic() - began, options)
    return 0


@dataclass(slots=True)
class Course:
    """How far it has come since it is looked on.

    What is left is counted in the SQL store, so that a restart of the service does not set it back. Answers are counted
    by the service since its start, so a rate is taken only while they grow.
    """

    state: RebuildState = field(init=False)
    rebuilt: int = 0
    """Results applied anew."""
    moved_at: float = 0.0
    _looks: deque[tuple[float, int, int]] = field(default_factory=deque)
    """Moment, answers applied, and results and entries left, at each look of the last seconds."""

    def look(self, state: RebuildState, now: float) -> None:
        """Take in what the service says; `now` is in seconds of a clock that is never set back."""
        if self._looks:
            self.rebuilt += max(0, self.state.outdated - state.outdated)
            if state.answers_applied < self._looks[-1][1]:
                self._looks.clear()
        if not self._looks or _place(state) != _place(self.state):
            self.moved_at = now
        self.state = state
        self._looks.append((now, state.answers_applied, self.left))
        while now - self._looks[0][0] > WINDOW_S:
            self._looks.popleft()

    @property
    def left(self) -> int:
        """Results to apply anew, and entries of the feed to apply."""
        return self.state.outdated + (self.state.lag or 0)

    @property
    def is_done(self) -> bool:
        """Whether everything is applied."""
        return self.state.outdated == 0 and self.state.lag == 0

    @property
    def obstacle(self) -> str:
        """What stands in the way, as far as the service knows."""
        if self.state.stopped is not None:
            return f"the analysis has stopped at {self.state.stopped}"
        if self.state.head is None:
            return "the analysis cannot read the results service; its log tells why"
        return "nothing is being applied; does the instance still run that was asked to?"

    @property
    def told(self) -> str:
        """How far it has come, in words."""
        state = self.state
        words = [f"{count(state.outdated, 'result')} left to apply anew"] if state.outdated or self.rebuilt else []
        if state.head is not None and state.position is not None:
            words.append(f"{state.position:,} of {state.head:,} entries of the feed")
        (began, answers_then, left_then), (now, answers, left) = self._looks[0], self._looks[-1]
        if len(self._looks) > 2:  # after two, one of them may be of another instance
            words.append(f"{(answers - answers_then) / (now - began):,.0f} answers/s")
            if left < left_then:
                seconds = round(left * (now - began) / (left_then - left))
                words.append(f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left")
        return ", ".join(words)


def _place(state: RebuildState) -> tuple[int | None, ...]:
    return (state.outdated, state.position, state.answers_applied)


def _look_on(house: Scorehouse, course: Course, waits: Waits, patience_s: float) -> None:
    """Return when all is applied; Stuck if nothing moves for `patience_s`."""
    with bare_bar(TextColumn("{task.fields[told]}")) as bar:
        tasks = bar.add_task("applying anew", visible=False), bar.add_task("feed", visible=False)
        line_at, obstacle = monotonic() + LINE_EVERY_S, ""
        while not course.is_done:
            sleep(LOOK_EVERY_S)
            course.look(house.rebuild_state(), monotonic())
            waits.end()
            now = monotonic()
            still_s = now - course.moved_at
            if still_s > patience_s:
                raise Stuck(f"{course.obstacle} (nothing has moved for {still_s:.0f} s)")
            if still_s < TROUBLE_S:
                obstacle = ""
            elif obstacle != course.obstacle:
                obstacle = course.obstacle
                say(
                    bar.console, f"{obstacle}; it tries again by itself, waiting for up to {patience_s:g} s …", "yellow"
                )
            _draw(bar, tasks, course)
            if bar.disable and now >= line_at:
                line_at = now + LINE_EVERY_S
                say(bar.console, course.told)


def _draw(bar: Progress, tasks: tuple[TaskID, TaskID], course: Course) -> None:
    state, (anew, feed) = course.state, tasks
    total = course.rebuilt + state.outdated
    is_behind = bool(state.lag)
    bar.update(anew, completed=course.rebuilt, total=total, visible=total > 0, told="" if is_behind else course.told)
    bar.update(feed, completed=state.position or 0, total=state.head, visible=is_behind, told=course.told)


def _tell(course: Course, seconds: float, options: RebuildOptions) -> None:
    """Print what became of it."""
    state = course.state
    if options.as_json:
        document = {
            "done": course.is_done,
            "rebuilt": course.rebuilt,
            "seconds": round(seconds, 3),
            "state": state.model_dump(mode="json"),
        }
        say(out(), json.dumps(document, ensure_ascii=False, indent=2))
    elif course.is_done:
        rebuilt = f"{count(course.rebuilt, 'result')} applied anew in {seconds:.1f} s; " if course.rebuilt else ""
        say(out(), f"{rebuilt}everything is applied, up to entry {state.position or 0:,} of the feed", "green")
    else:
        say(out(), f"not all is applied: {course.told}", "bold red")
