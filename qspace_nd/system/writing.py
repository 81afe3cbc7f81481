"""Writing files so that each is whole or absent, and nothing is overwritten by surprise."""

from __future__ import annotations

import filecmp
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from qspace_nd.errors import OutputError, WorkError
from qspace_nd.system.locking import hold, remove_unheld

_LEFT = re.compile(r"\.(?:[0-9a-f]{8}(?P<suffix>(?:\.[^.]+){0,2})|lock)")
"""What follows the name of a file in that of its temporary file (`replacing`) or of its lock."""


_MOST_HELD = 40
"""Files that wait to take their places together and are held meanwhile."""


@dataclass(frozen=True)
class _Written:
    """A whole temporary file that is to take the place of another."""

    temporary: Path
    descriptor: int | None  # held, so that no other process takes it for left behind
    path: Path

    def settle(self) -> None:
        with _could_not_be_written(self.path):
            self.temporary.replace(self.path)

    def drop(self) -> None:
        with suppress(OSError):  # what went wrong before is what the user wants to know
            self.temporary.unlink(missing_ok=True)
        if self.descriptor is not None:
            os.close(self.descriptor)

    def let_go(self) -> _Written:
        """Hold it no longer: a process has only so many open files."""
        if self.descriptor is not None:
            os.close(self.descriptor)
        return replace(self, descriptor=None)


_waiting: ContextVar[list[_Written] | None] = ContextVar("_waiting", default=None)


def require_writable(paths: Iterable[Path], *, force: bool) -> None:
    """Check, before any work, that every one of `paths` can be written; create nothing.

    Raises
    ------
    OutputError
        One exists and `force` is not set, is a folder, or lies where nothing can be written.
    """
    paths = list(paths)
    for path in paths:
        with _refusing(path):
            if path.is_dir():
                raise OutputError(f"{path} is a folder; name a file to write to.")
            if path.exists() and not force:
                raise _taken(path)
    for folder in dict.fromkeys(path.parent for path in paths):
        with _refusing(folder):
            there = next(place for place in [folder, *folder.absolute().parents] if place.exists())
            with tempfile.TemporaryFile(dir=there):
                pass


@contextmanager
def _refusing(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(
            f"Nothing can be written to {place} ({reason}); choose another folder."
        ) from error


def _taken(path: Path) -> OutputError:
    return OutputError(f"{path} exists already; name another output, or overwrite it with --force.")


@contextmanager
def replacing(path: Path, like: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    The folder is created where it is missing.
    Readers see the old file or the whole new one, never a part; where the block fails or is
    interrupted the temporary file is removed and what was there stays. What a process that was
    killed has left of `path` is removed. Who may read and write it is as it was for the file that
    is replaced, or is for `like`; else as for any new file.

    Raises
    ------
    WorkError
        The file could not be written, because the disk is full for instance; or nothing was.
    """
    mode = _permissions(path)
    if mode is None and like is not None:
        mode = _permissions(like)
    written = None
    try:
        with _could_not_be_written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_leftovers([path])
            written = _begin(path, mode)
            yield written.temporary
            with written.temporary.open("rb+") as stream:
                os.fsync(stream.fileno())
                if not os.fstat(stream.fileno()).st_size:  # a library wrote to another place
                    raise WorkError(f"{path} could not be written: the file stayed empty.")
            if mode is not None:
                written.temporary.chmod(mode)
        waiting = _waiting.get()
        if waiting is None:
            written.settle()
        else:
            waiting.append(written if len(waiting) < _MOST_HELD else written.let_go())
            written = None
    finally:
        if written is not None:
            written.drop()


@contextmanager
def together(*, force: bool = True) -> Iterator[None]:
    """Let all that `replacing` gives in the block take its place when the block ends, or nothing.

    It is for who is `alone` with these files: of very many, not all are held.

    Without `force` what is there already stays, and must be of the same bytes.

    Raises
    ------
    OutputError
        A file is there that is other than the one that was written.
    WorkError
        See `replacing`.
    """
    files: list[_Written] = []
    token = _waiting.set(files)
    try:
        yield
        for one in () if force else files:
            if one.path.exists() and not filecmp.cmp(one.temporary, one.path, shallow=False):
                raise _taken(one.path)
        for one in files:
            one.settle()
    finally:
        _waiting.reset(token)
        for one in files:
            one.drop()


def remove_leftovers(paths: Iterable[Path]) -> None:
    """Remove temporary files and locks of `paths` that processes have left which were killed.

    One that a process is about to write stays, as does whatever has another name.
    """
    names: dict[Path, set[str]] = {}
    for path in paths:
        names.setdefault(path.parent, set()).add(path.name)
    for folder, own in names.items():
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and _is_left(entry.name, own):
                    remove_unheld(folder / entry.name)


def _is_left(name: str, of: set[str]) -> bool:
    """Whether a name is that of a temporary file, or a lock, of one of the names `of`."""
    return any(
        name[1 : found.start()] in of
        and found["suffix"] in (None, _suffix(Path(name[1 : found.start()])))
        for found in _LEFT.finditer(name)
        if found.end() == len(name)
    )


def _begin(path: Path, mode: int | None) -> _Written:
    """Make an empty temporary file beside `path`, and hold it."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_suffix(path)}")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        descriptor = os.open(temporary, flags, 0o666 if mode is None else mode | 0o600)
        hold(descriptor)
        if os.fstat(descriptor).st_nlink:
            return _Written(temporary, descriptor, path)
        os.close(descriptor)  # another process has taken it for left behind before it was held


def _suffix(path: Path) -> str:
    """The ending that writers go by."""
    return "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix


def _permissions(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode) & 0o777
    except OSError:
        return None


@contextmanager
def _could_not_be_written(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise WorkError(
            f"{path} could not be written ({reason}); what was there before is unchanged."
        ) from error


def write_text(path: Path, text: str, like: Path | None = None) -> None:
    """Write a whole file of text, in UTF-8, as `replacing` does.

    Raises
    ------
    WorkError
        See `replacing`.
    """
    with replacing(path, like) as temporary:
        temporary.write_text(text, encoding="utf-8")
