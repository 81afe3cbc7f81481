"""Hashes that tell whether content is what it was: 32 hexadecimal digits of BLAKE2b."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def hash_of(parts: Iterable[bytes | memoryview]) -> str:
    """Hash bytes that come in parts: the same, however they are divided."""
    whole = _digest()
    for part in parts:
        whole.update(part)
    return str(whole.hexdigest())


def hash_of_file(path: Path) -> str:
    """Hash the bytes of a file.

    Raises
    ------
    OSError
        It cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, _digest).hexdigest()


def _digest() -> Any:
    return hashlib.blake2b(digest_size=16)
