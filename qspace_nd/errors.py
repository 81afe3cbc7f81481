"""The errors that qspace-nd raises on purpose.

    QspaceError
    ├── InputError            what was given is wrong; nothing was computed or written
    │   ├── ScanError         an image that cannot be read or holds no usable signal
    │   ├── GridError         a mask, label or map on another voxel grid than its scan
    │   ├── GradientError     b-values or b-vectors missing, malformed or unlike the model's
    │   ├── LabelError        lesion labels that cannot be evaluated
    │   ├── ModelError        a model folder that is absent, incomplete, altered or too new
    │   ├── ArrayError        an array of a wrong shape, type or content
    │   ├── OutputError       an output that exists or cannot be written
    │   └── NotFittedModelError  a model that is not fitted (in `model`: scikit-learn's too)
    └── WorkError             a failure while working, after the input was accepted

Every message is one sentence that says which file, what was found, what was expected and what to
do. An `InputError` is also a `ValueError`, as users of scikit-learn expect. The command line turns
an `InputError` into exit status 2 and a `WorkError` into exit status 1.
"""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, thing: str) -> str:
    """Say how many there are of a thing: "1 scan", "2 scans"."""
    return f"{number:,} {thing}" + ("" if number == 1 else "s")


def listed(things: Sequence[object], most: int = 8) -> str:
    """Name the first things of many: "a, b and 3 more"."""
    named = ", ".join(map(str, things[:most]))
    return f"{named} and {len(things) - most} more" if len(things) > most else named


class QspaceError(Exception):
    """Whatever qspace-nd raises on purpose."""


class InputError(QspaceError, ValueError):
    """What was given is wrong; nothing was computed or written."""


class ScanError(InputError):
    """An image that cannot be read or holds no usable signal."""


class GridError(InputError):
    """A mask, label or map on another voxel grid than its scan."""


class GradientError(InputError):
    """b-values or b-vectors that are missing, malformed or unlike the model's."""


class LabelError(InputError):
    """Lesion labels that cannot be evaluated."""


class ModelError(InputError):
    """A model folder that is absent, incomplete, altered or of a newer schema."""


class ArrayError(InputError):
    """An array of a wrong shape, type or content."""


class OutputError(InputError):
    """An output that exists already or cannot be written."""


class WorkError(QspaceError):
    """A failure while working, after the input was accepted."""
