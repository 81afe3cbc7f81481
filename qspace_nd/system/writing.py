"""Writing files so that each is whole or absent, and nothing is overwritten by surprise."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from qspace_nd.errors import OutputError, WorkError


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
                raise OutputError(
                    f"{path} exists already; name another output, or overwrite it with --force."
                )
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


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` that takes its place when the block ends well.

    The folder is created where it is missing.
    Readers see the old file or the whole new one, never a part; where the block fails or is
    interrupted the temporary file is removed and what was there stays.

    Raises
    ------
    WorkError
        The file could not be written, because the disk is full for instance.
    """
    suffix = "".join(path.suffixes[-2:]) if path.name.endswith(".gz") else path.suffix
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WorkError(
            f"{path} could not be written ({reason}); what was there before is unchanged."
        ) from error
    finally:
        with suppress(OSError):  # what went wrong before is what the user wants to know
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a whole file of text, in UTF-8, as `replacing` does.

    Raises
    ------
    WorkError
        See `replacing`.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
