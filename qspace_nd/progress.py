"""How far long work has come: who does it tells a listener, who shows it as bars or as lines.

What is said and warned of is no matter of this module: it goes through `logging`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import rich.progress
    from rich.console import Console

_log = logging.getLogger(__name__)
_LOG_EVERY = 20.0  # seconds between two lines about one task in a log


Advance = Callable[[int], object]
"""Is told of so many more steps that are done."""


def unheard(steps: int) -> None:
    """Hear of steps, and do nothing about it."""


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more steps done; `note` replaces the text beside the bar."""


class Progress(Protocol):
    """A listener: starts a `Task` for a named piece of work of `total` steps."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """Open a task; it is finished when the `with` block ends."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class _Silent:
    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield _SilentTask()


SILENT: Progress = _Silent()
"""The listener that shows nothing: the default of every function of the library."""


def watcher(progress: Progress | bool) -> Progress:
    """Give the listener that a caller asks for: True for `bars`, False for none."""
    if isinstance(progress, bool):
        return bars() if progress else SILENT
    return progress


class _Within:
    """Takes the steps of all tasks for steps of one that is open; who does, stays here.

    In a process that it is sent to nobody listens.
    """

    def __init__(self, task: Task) -> None:
        self._task = task

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield self._task

    def __reduce__(self) -> tuple[type[Progress], tuple[()]]:
        return _Silent, ()


class Reaching:
    """A task that can be told how far it has come in all, whoever told it of how many steps.

    Parameters
    ----------
    task : Task
        What is told.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._done = task, 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        """See `Task`."""
        self._done += steps
        self._task.advance(steps, note)

    def reach(self, steps: int, note: str = "") -> None:
        """Report that so many steps are done in all."""
        self.advance(steps - self._done, note)


def within(task: Task) -> Progress:
    """Give a listener whose tasks show as steps of `task`, so that it moves as they do."""
    return _Within(task)


def bars(console: Console | None = None) -> Progress:
    """Give bars on a terminal, and lines now and then in a log; on stderr, unless told otherwise.

    Parameters
    ----------
    console : rich.console.Console, optional
        Where they are shown; what else is printed there stands above the bars.
    """
    from rich.console import Console

    console = console or Console(stderr=True, highlight=False, emoji=False)
    return _Bars(console) if console.is_interactive else _Lines(console)


@contextmanager
def timed(step: str) -> Iterator[None]:
    """Log, at the level DEBUG, how long the block took, under a name such as "Reading scans"."""
    start = time.monotonic()
    yield
    _log.debug(f"{step} took {time.monotonic() - start:.1f} s")


class _Lines:
    """One line now and then with an estimate, and one when a task ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        task = _LinesTask(self, name, total)
        yield task
        self.print(f"{name}: done in {_duration(time.monotonic() - task.start)}{task.last_note}")

    def print(self, line: str) -> None:
        self._console.print(line, markup=False, emoji=False, highlight=False, soft_wrap=True)


class _LinesTask:
    def __init__(self, lines: _Lines, name: str, total: int) -> None:
        self._lines, self._name, self._total = lines, name, total
        self._done = 0
        self._first: tuple[float, int] | None = None  # when the first steps were done, how many
        self.start = self._told = time.monotonic()
        self.last_note = ""

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self.last_note = f" ({note})" if note else self.last_note
        now = time.monotonic()
        if not self._done:
            return
        if self._first is None:
            self._first = now, self._done
        if now - self._told < _LOG_EVERY:
            return
        self._told = now
        # What others need too may be prepared with the first: it tells nothing of their time.
        begun, already = self._first
        left = ""
        if self._done > already:
            seconds = (now - begun) * (self._total - self._done) / (self._done - already)
            left = f", about {_duration(seconds)} left"
        self._lines.print(f"{self._name}: {self._done / self._total:.0%}{left}{self.last_note}")


class _Bars:
    """A bar with the time left for each task; tasks inside tasks share one display.

    What is done stays on the screen, and is let go of: the next display begins with its own bars.
    """

    def __init__(self, console: Console) -> None:
        import rich.progress

        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
        )
        self._open = 0

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        if not self._open:
            self._bars.start()
        self._open += 1
        bar = self._bars.add_task(name, total=total, note="")
        try:
            yield _Bar(self._bars, bar)
        finally:
            self._open -= 1
            if not self._open:
                self._bars.stop()
                for shown in self._bars.task_ids:
                    self._bars.remove_task(shown)


class _Bar:
    def __init__(self, bars: rich.progress.Progress, bar: rich.progress.TaskID) -> None:
        self._bars, self._bar = bars, bar

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._bars.advance(self._bar, steps)
        if note:
            self._bars.update(self._bar, note=note)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
