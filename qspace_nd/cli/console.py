"""What a person at the terminal, or a log file, sees of long work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import rich.progress
from rich.console import Console as RichConsole
from rich.text import Text

from qspace_nd.progress import Progress, Task

_LOG_EVERY = 20.0  # seconds between two lines about one task in a log


def open_progress(*, quiet: bool) -> Progress:
    """Return bars on a terminal, lines in a log, only warnings when quiet; all on stderr."""
    console = RichConsole(stderr=True, highlight=False, emoji=False)
    if quiet:
        return _Quiet(console)
    return _Terminal(console) if console.is_interactive else _Log(console)


class _Quiet:
    """Tells warnings alone."""

    def __init__(self, console: RichConsole) -> None:
        self._console = console

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        return nullcontext(_Unseen())

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        self._console.print(Text.assemble(("Warning:", "yellow"), " ", message), soft_wrap=True)


class _Unseen:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class _Log(_Quiet):
    """One line when a task begins, one now and then with an estimate, one when it ends."""

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        return self._log(name, total)

    @contextmanager
    def _log(self, name: str, total: int) -> Iterator[Task]:
        logged = _Logged(self, name, total)
        yield logged
        self.say(f"{name}: done in {_duration(time.monotonic() - logged.start)}{logged.last_note}")

    def say(self, message: str) -> None:
        self._console.print(Text(message), soft_wrap=True)


class _Logged:
    def __init__(self, log: _Log, name: str, total: int) -> None:
        self._log, self._name, self._total = log, name, total
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
        self._log.say(f"{self._name}: {self._done / self._total:.0%}{left}{self.last_note}")


class _Terminal(_Quiet):
    """A bar with the time left for each task; tasks inside tasks share one display.

    What is done stays on the screen, and is let go of: the next display begins with its own bars.
    """

    def __init__(self, console: RichConsole) -> None:
        super().__init__(console)
        self._bars = rich.progress.Progress(
            rich.progress.TextColumn("{task.description}", markup=False),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TaskProgressColumn(),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=console,
        )
        self._open = 0

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        return self._bar(name, total)

    @contextmanager
    def _bar(self, name: str, total: int) -> Iterator[Task]:
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

    def say(self, message: str) -> None:
        self._console.print(Text(message), soft_wrap=True)


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
