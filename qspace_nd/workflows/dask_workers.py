"""Work on its way to the workers of a Dask cluster, which may go and come, and back.

A worker does one item at a time, with threads of its own. An item whose worker is lost goes to
another. What is logged on a worker is told here when the item is over.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from itertools import islice
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic

from qspace_nd._version import __version__
from qspace_nd.errors import QspaceError, WorkError
from qspace_nd.system.machine import Machine, cores
from qspace_nd.system.sharing import Item, Made
from qspace_nd.workflows.clusters import Cluster

if TYPE_CHECKING:
    from distributed import Client, Future

_RETRIES = 2  # of an item that fails by what is no fault of its own
_LEAST_SENT = 64  # items that are on their way at once, as each may be some MB
_LOGGER = "qspace_nd"

_log = logging.getLogger(__name__)
_one_at_a_time = threading.Lock()  # threads, folder and log belong to the whole process


@dataclass(frozen=True)
class Done(Generic[Made]):
    """An item that is over: which one, and what was made of it or what it failed by.

    Attributes
    ----------
    number : int
    made : object or None
    error : QspaceError or None
    """

    number: int
    made: Made | None
    error: QspaceError | None = None


@dataclass(frozen=True)
class Workers:
    """The workers of a cluster that is reached.

    Attributes
    ----------
    client : distributed.Client
    where : str
        The address of their scheduler.
    threads : int or None
        That each computes with; None for as many as it has cores.
    again : str
        What is to be done where the scheduler was lost.
    """

    client: Client
    where: str
    threads: int | None
    again: str

    @staticmethod
    @contextmanager
    def of(
        cluster: Cluster, items: int, *, again: str, threads: int | None = None
    ) -> Iterator[Workers]:
        """Reach workers, which so many items wait for, and let go of them after the block.

        Raises
        ------
        InputError
            No scheduler answers.
        """
        with _quiet(), cluster.connected(items) as client:
            client.subscribe_topic("all", _tell_of_losses)
            yield Workers(client, client.scheduler.address, threads, again)

    def done(
        self, work: Callable[[Item], Made], items: Sequence[Item], name: Callable[[int], str]
    ) -> Generator[Done[Made], None, None]:
        """Do `work` with each of `items`, and give each back when it is over, in any order.

        `name` says what the item of a number is called where nobody could do it.

        Raises
        ------
        WorkError
            The scheduler was lost, or the workers cannot do anything.
        """
        from distributed import as_completed
        from distributed.comm import CommClosedError

        folder, level = Path.cwd(), logging.getLogger(_LOGGER).getEffectiveLevel()
        if self.client.status != "running":
            raise self._lost()
        left = enumerate(items)
        sent: dict[Future, int] = {}
        over = as_completed(loop=self.client.loop)
        try:
            while True:
                for number, item in islice(left, max(0, self._most_sent() - len(sent))):
                    order = _Order(work, item, folder, level, self.threads)
                    future = self._sent(order, priority=-number)
                    sent[future] = number
                    over.add(future)
                if not sent:
                    return
                if self.client.status != "running":  # what was sent just now may never come back
                    raise self._lost()
                future = next(over)
                number = sent.pop(future)
                yield self._done(future, number, name(number))
        except (CancelledError, CommClosedError) as error:  # nobody else cancels anything
            raise self._lost() from error
        finally:
            if self.client.status == "running":
                self.client.cancel(list(sent))

    def _lost(self) -> WorkError:
        return WorkError(f"The Dask scheduler at {self.where} was lost; {self.again}.")

    def _most_sent(self) -> int:
        """How many items are on their way at once: enough for the workers that there are now."""
        workers = self.client.scheduler_info(n_workers=-1).get("workers", ())  # none if it is lost
        return max(_LEAST_SENT, 2 * len(workers))

    def _sent(self, order: _Order[Any, Any], priority: int) -> Future:
        return self.client.submit(order, pure=False, retries=_RETRIES, priority=priority)

    def _done(self, future: Future, number: int, name: str) -> Done[Any]:
        """Tell what an item has logged, and give what was made of it or what it failed by."""
        from distributed import KilledWorker

        try:
            told: _Told[Any] = future.result()
        except KilledWorker as error:
            lost = WorkError(
                f"{name}: {error.allowed_failures + 1} workers were lost at it, for want of "
                f"memory maybe; give each less to do (--memory), or more memory."
            )
            return Done(number, None, lost)
        except ImportError as error:
            raise WorkError(
                f"The workers of {self.where} cannot do this ({error}); install qspace-nd for "
                f"them, in the version that is used here ({__version__})."
            ) from error
        for record in told.records:
            logger = logging.getLogger(record.name)
            if logger.isEnabledFor(record.levelno):
                logger.handle(record)
        return Done(number, told.made, told.error)


@dataclass(frozen=True)
class _Order(Generic[Item, Made]):
    """An item on its way to a worker, and what it must know to do it as it is done here."""

    work: Callable[[Item], Made]
    item: Item
    folder: Path  # that relative paths start at
    level: int  # of what is logged
    threads: int | None
    version: str = __version__

    def __call__(self) -> _Told[Made]:
        """Do it, on a worker."""
        with _one_at_a_time, _records(self.level) as records:
            try:
                self._require_alike()
                with chdir(self.folder), Machine(threads=self.threads or cores()).limited():
                    made = self.work(self.item)
            except QspaceError as error:
                return _Told(_taken(records), None, error)
            return _Told(_taken(records), made)

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
class _Told(Generic[Made]):
    """What a worker has to say of an item."""

    records: tuple[logging.LogRecord, ...]
    made: Made | None
    error: QspaceError | None = None


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
