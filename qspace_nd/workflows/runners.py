"""What does the jobs of `map`, and the parts of a `fit`: here, in this process.

A runner takes the work and the jobs, and gives each job back when it is over; in which order and
where it is done is the runner's own matter. `work` and the jobs can be pickled, so that a runner
may send them to other processes or machines; the listener cannot, and stays.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from qspace_nd.errors import QspaceError
from qspace_nd.progress import SILENT, Progress
from qspace_nd.system.sharing import HERE, Each
from qspace_nd.workflows.jobs import Ended, MapJob


class Work(Protocol):
    """Does a job; raises a `QspaceError` where it cannot be done."""

    def __call__(self, job: MapJob, /, *, progress: Progress = SILENT) -> object:
        """Do it, and tell `progress` how far it has come."""


class Runner(Protocol):
    """Does jobs, and gives each back when it is over."""

    def __call__(
        self, work: Work, jobs: Sequence[MapJob], progress: Progress, /
    ) -> Generator[Ended, None, None]:
        """Do `work` with each of `jobs`; one that fails stops no other.

        What is held for it is let go of when the generator is closed.
        """


def in_turn(
    work: Work, jobs: Sequence[MapJob], progress: Progress = SILENT
) -> Generator[Ended, None, None]:
    """Do jobs one after another; whoever stops asking for the next leaves it undone."""
    for job in jobs:
        try:
            work(job, progress=progress)
        except QspaceError as error:
            yield Ended(job, error)
        else:
            yield Ended(job)


class Crew(Protocol):
    """Who does what `fit` and `calibrate` do for every scan; whole or nothing."""

    def together(self, items: int) -> AbstractContextManager[Each]:
        """Get ready for work of so many items at once, and let go of what that took at the end."""


class _Alone:
    def together(self, items: int) -> AbstractContextManager[Each]:
        return nullcontext(HERE)


ALONE: Crew = _Alone()
"""This process."""
