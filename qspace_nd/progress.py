"""How long work reports its progress, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One piece of work under way."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Report `steps` more steps done; `note` replaces the text beside the bar."""


class Progress(Protocol):
    """A listener: starts a `Task` for a named piece of work of `total` steps.

    `say` is for what a user wants to know once, `warn` for what they should act on.
    """

    def task(self, name: str, total: int) -> AbstractContextManager[Task]:
        """Open a task; it is finished when the `with` block ends."""

    def say(self, message: str) -> None:
        """Tell the user one fact."""

    def warn(self, message: str) -> None:
        """Tell the user one thing that they should look at."""


class _SilentTask:
    def advance(self, steps: int = 1, note: str = "") -> None:
        pass


class _Silent:
    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        yield _SilentTask()

    def say(self, message: str) -> None:
        pass

    def warn(self, message: str) -> None:
        pass


SILENT: Progress = _Silent()
"""The listener that hears nothing: the default of every function of the library."""


def watcher(progress: Progress | bool) -> Progress:
    """Give the listener that a caller asks for: True for `bars`, False for none."""
    if isinstance(progress, bool):
        return bars() if progress else SILENT
    return progress


def bars() -> Progress:
    """Give the listener that shows bars on the terminal."""
    return SILENT
