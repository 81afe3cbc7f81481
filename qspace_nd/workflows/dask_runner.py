"""Who has work done by the workers of a Dask cluster: the scans of `map`, the parts of a `fit`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import cast

from qspace_nd.progress import Progress
from qspace_nd.system.machine import Machine
from qspace_nd.system.sharing import Each, Item, Made
from qspace_nd.workflows.clusters import Cluster
from qspace_nd.workflows.dask_workers import Done, Workers
from qspace_nd.workflows.jobs import Ended, MapJob
from qspace_nd.workflows.runners import Work

_AGAIN = "start again when there is one"
_MAP_AGAIN = "run the same command again when there is one: scans that are mapped are skipped"


@dataclass(frozen=True)
class DaskRunner:
    """A `Runner` that sends each job to a worker, and gives it back when it is over, in any order.

    A job whose worker is lost goes to another, which skips it if its maps are there already: they
    are written whole or not at all, and stamped.

    Raises
    ------
    InputError
        What is needed to reach the workers is not there.
    """

    cluster: Cluster

    def __post_init__(self) -> None:
        self.cluster.require()

    def __call__(
        self, work: Work, jobs: Sequence[MapJob], progress: Progress
    ) -> Generator[Ended, None, None]:
        """Do the jobs; the workers are let go of when the last is given back, or nobody asks.

        Raises
        ------
        InputError
            No scheduler answers.
        WorkError
            The scheduler was lost.
        """
        if not jobs:
            return
        with (
            Workers.of(self.cluster, len(jobs), again=_MAP_AGAIN) as workers,
            progress.task("Mapping scans", len(jobs)) as task,
        ):
            done = workers.done(
                partial(_unless_done, work),
                jobs,
                lambda number: f"{jobs[number].scan.files.image} could not be mapped",
            )
            for one in done:
                job = jobs[one.number]
                task.advance(note=job.scan.files.name)
                yield Ended(job, one.error)


def _unless_done(work: Work, job: MapJob) -> None:
    if job.force or not job.is_done():
        work(job)


@dataclass(frozen=True)
class DaskCrew:
    """A `Crew` of the workers of a cluster.

    Attributes
    ----------
    cluster : Cluster
    machine : Machine
        What one worker may use, where the cluster does not say otherwise.

    Raises
    ------
    InputError
        What is needed to reach the workers is not there.
    """

    cluster: Cluster
    machine: Machine = field(default_factory=Machine)

    def __post_init__(self) -> None:
        self.cluster.require()

    @contextmanager
    def together(self, items: int) -> Iterator[Each]:
        """Reach the workers, and let go of them after the block; see `Crew`.

        Raises
        ------
        InputError
            No scheduler answers.
        """
        machine = self.cluster.share(self.machine)
        with Workers.of(self.cluster, items, again=_AGAIN, threads=machine.threads) as workers:
            yield _ByWorkers(workers, machine)


@dataclass(frozen=True)
class _ByWorkers:
    """Does work by workers, an item each: see `Each`."""

    workers: Workers
    elsewhere: Machine

    def __call__(
        self, work: Callable[[Item], Made], items: Iterable[Item], *, by_threads: bool = False
    ) -> Iterator[Made]:
        """See `Each`."""
        items = list(items)
        early: dict[int, Done[Made]] = {}
        number, name = 0, f"One of {len(items)} scans"
        with closing(self.workers.done(work, items, lambda _: name)) as done:
            for one in done:
                early[one.number] = one
                while number in early:
                    yield _made(early.pop(number))
                    number += 1


def _made(done: Done[Made]) -> Made:
    if done.error is not None:
        raise done.error
    return cast(Made, done.made)
