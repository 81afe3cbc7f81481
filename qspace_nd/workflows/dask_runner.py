"""Doing jobs by the workers of a Dask cluster, which may go and come.

A worker does one job at a time, with threads of its own. A job whose worker is lost goes to
another, which skips it if its maps are there already: they are written whole or not at all, and
stamped. What a job logs on its worker is told here when it is over.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from qspace_nd._version import __version__
from qspace_nd.errors import QspaceError, WorkError
from qspace_nd.progress import Progress
from qspace_nd.system.machine import Machine, cores
from qspace_nd.workflows.clusters import Cluster
from qspace_nd.workflows.jobs import Ended, MapJob
from qspace_nd.workflows.runners import Work

if TYPE_CHECKING:
    from distributed import Client, Future

_RETRIES = 2  # of a job that fails by what is no fault of its scan
_LOGGER = "qspace_nd"

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # threads, folder and log belong to the whole process


@dataclass(frozen=True)
class DaskRunner:
    """A `Runner` that sends each job to a worker, and gives it back when it is over, in any order.

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
            _quiet(),
            self.cluster.connected(len(jobs)) as client,
            progress.task("Mapping scans", len(jobs)) as task,
        ):
            client.subscribe_topic("all", _tell_of_losses)
            for ended in _submitted(client, work, jobs):
                task.advance(note=ended.job.scan.files.name)
                yield ended


@dataclass(frozen=True)
class _Order:
    """A job on its way to a worker, and what the worker must know to do it as it is done here."""

    work: Work
    job: MapJob
    folder: Path  # that relative paths start at
    level: int  # of what is logged
    version: str = __version__

    def __call__(self) -> _Told:
        """Do it, on a worker."""
        with _one_at_a_time, _records(self.level) as records:
            try:
                self._require_alike()
                with chdir(self.folder), Machine(threads=cores()).limited():
                    if self.job.force or not self.job.is_done():
                        self.work(self.job)
            except QspaceError as error:
                return _Told(_taken(records), error)
            return _Told(_taken(records))

    def _require_alike(self) -> None:
        """Check that this worker has the same program and files as who asks."""
        host = socket.gethostname()
        if self.version != __version__:
            raise WorkError(
                f"A worker on {host} has qspace-nd {__version__}, and {self.version} asks; install "
                f"the same for all."
            )
        if not self.folder.is_dir():
            raise WorkError(
                f"A worker on {host} does not see the folder {self.folder}; workers need the "
                f"scans, the model and the output under the same paths as here."
            )


@dataclass(frozen=True)
class _Told:
    """What a worker has to say of a job."""

    records: tuple[logging.LogRecord, ...]
    error: QspaceError | None = None


def _submitted(client: Client, work: Work, jobs: Sequence[MapJob]) -> Iterator[Ended]:
    """Send all jobs, and give each back when it is over."""
    from distributed import as_completed

    level = logging.getLogger(_LOGGER).getEffectiveLevel()
    where = client.scheduler.address
    sent: dict[Future, MapJob] = {
        client.submit(
            _Order(work, job, Path.cwd(), level),
            pure=False,
            retries=_RETRIES,
            priority=-number,
        ): job
        for number, job in enumerate(jobs)
    }
    for future in as_completed(sent, loop=client.loop):
        job = sent.pop(future)
        yield Ended(job, _error_of(future, job, where))


def _error_of(future: Future, job: MapJob, where: str) -> QspaceError | None:
    """Tell what a job has logged, and give what it failed by.

    Raises
    ------
    WorkError
        The scheduler was lost, or the workers cannot do any job.
    """
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        told: _Told = future.result()
    except (CancelledError, CommClosedError) as error:  # nobody else cancels it
        raise WorkError(
            f"The Dask scheduler at {where} was lost; run the same command again when there is "
            f"one: scans that are mapped are skipped."
        ) from error
    except KilledWorker as error:
        return WorkError(
            f"{job.scan.files.image} could not be mapped: {error.allowed_failures + 1} workers "
            f"were lost at it, for want of memory maybe; give each less to do (--memory), or more "
            f"memory."
        )
    except ImportError as error:
        raise WorkError(
            f"The workers of {where} cannot do this ({error}); install qspace-nd for them, in the "
            f"version that is used here ({__version__})."
        ) from error
    for record in told.records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    return told.error


def _tell_of_losses(event: tuple[float, Any]) -> None:
    """Tell of a worker that was lost while it did a job."""
    _, what = event
    lost = what.get("action") == "remove-worker" and not what.get("expected")
    if lost and what.get("processing-tasks"):
        _log.warning(f"The worker {what['worker']} was lost; what it did goes to another")


@contextmanager
def _records(level: int) -> Iterator[SimpleQueue[logging.LogRecord]]:
    """Collect what the package logs in the block, ready to be sent."""
    records: SimpleQueue[logging.LogRecord] = SimpleQueue()
    logger, handler = logging.getLogger(_LOGGER), QueueHandler(records)
    before, upwards = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # a worker's own log would tell it a second time
    try:
        yield records
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = upwards


def _taken(records: SimpleQueue[logging.LogRecord]) -> tuple[logging.LogRecord, ...]:
    return tuple(records.get() for _ in range(records.qsize()))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask from saying in its words, on the user's terminal, what is told in ours."""
    import distributed  # noqa: F401  it sets the levels of its loggers when it is loaded

    names = ("distributed", "distributed.client", "tornado")
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
