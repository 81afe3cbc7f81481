"""One process at a time: locks that the system lets go of when their process ends, however it does.

They are locks of whole files (`flock`), so that nothing needs to be told of a process that was
killed: its file may be left, its lock is not. On network file systems that have such locks they
hold between machines too, as the file is opened to be written.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

from qspace_nd.errors import OutputError

_held: ContextVar[frozenset[Path]] = ContextVar("_held", default=frozenset())

_UNTOLD = 20
"""How often a lock is asked for, 20 times a second, before it is said what is waited for."""

_log = logging.getLogger(__name__)


def lock_of(path: Path) -> Path:
    """Name the file that is locked while `path` is written, hidden and beside it."""
    return path.with_name(f".{path.name}.lock")


@contextmanager
def alone(lock: Path, what: Path) -> Iterator[None]:
    """Let one process at a time do the block, of all that name one `lock`; wait for the others.

    Who holds a lock may ask for it again. Where the file system has no locks a warning says so.

    Parameters
    ----------
    lock : Path
        A file for this alone, made here and removed at the end, with the folders it needs.
    what : Path
        What is written to, for messages.

    Raises
    ------
    OutputError
        Nothing can be written there.
    """
    key = Path(os.path.realpath(lock.parent), lock.name)  # a link in its place is not followed
    if key in _held.get():
        yield
        return
    made = [place for place in key.parents if not place.exists()]
    token, descriptor = _held.set(_held.get() | {key}), None
    try:
        descriptor = _acquire(key, what)
        yield
    finally:
        _held.reset(token)
        if descriptor is not None:
            with suppress(OSError):
                key.unlink()  # while it is locked: whoever waits for it sees that it is gone
            os.close(descriptor)
        for place in made:
            with suppress(OSError):  # that there is something in it
                place.rmdir()


def _acquire(lock: Path, what: Path) -> int:
    while True:
        descriptor = _open(lock, what)
        try:
            _wait_for(descriptor, what)
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except OSError as error:
            if os.fstat(descriptor).st_nlink:
                _log.warning(
                    f"The file system of {what} has no locks ({error.strerror}): let no other "
                    f"qspace-nd write there at the same time."
                )
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # whoever held it has removed the file


def _open(lock: Path, what: Path, tries: int = 100) -> int:
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        return os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and tries:  # whoever made the folder removed it
            return _open(lock, what, tries - 1)
        raise OutputError(
            f"Nothing can be written to {what} ({error.strerror}); choose another folder."
        ) from error


def _wait_for(descriptor: int, what: Path) -> None:
    with suppress(OSError):  # a group's members share a folder, and may not be the same user
        os.fchmod(descriptor, 0o666)
    for _ in range(_UNTOLD):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(0.05)
    _log.warning(f"Another qspace-nd is writing to {what}; waiting until it has ended")
    fcntl.flock(descriptor, fcntl.LOCK_EX)


def hold(descriptor: int) -> None:
    """Lock a file that is open to be written until it is closed, where its file system can."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def remove_unheld(path: Path) -> None:
    """Remove a file unless a process holds it, or none can be asked, or it is no plain file."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
