"""`masks/` in a model's folder: masks that `fit` had to compute, there once the model is.

They wait in a hidden folder until `model.json` is written, and take their places after it. Of a
process that was killed between the two, whoever writes to the model next moves them.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

_WAITING, _PLACE = ".masks", "masks"


def waiting_masks(folder: Path) -> Path:
    """The folder in which masks wait until the model in `folder` is written."""
    return folder / _WAITING


def mask_path(folder: Path, name: str) -> Path:
    """Where the mask that waits under a name lies in the end."""
    return folder / _PLACE / name


def settle_masks(folder: Path) -> None:
    """Move masks that wait to their places: the model is written."""
    for path in sorted(waiting_masks(folder).glob("*")):
        mask_path(folder, path.name).parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # another process has moved it just now
            path.replace(mask_path(folder, path.name))
    drop_masks(folder)


def take_up_masks(folder: Path, index: Path) -> None:
    """Settle masks that a process has left which was killed.

    Those that are newer than the model's `index` are of one that was not written, and are removed.
    """
    waiting = waiting_masks(folder)
    if not waiting.is_dir():
        return
    written = index.stat().st_mtime_ns if index.exists() else 0
    for path in waiting.iterdir():
        with suppress(FileNotFoundError):
            if path.name.startswith(".") or path.stat().st_mtime_ns > written:
                path.unlink()
    settle_masks(folder)


def drop_masks(folder: Path) -> None:
    """Remove masks that wait for a model that was not written."""
    shutil.rmtree(waiting_masks(folder), ignore_errors=True)
