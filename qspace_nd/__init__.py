"""Find abnormal tissue in diffusion MRI without lesion labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qspace_nd._version import __version__

if TYPE_CHECKING:
    from qspace_nd.errors import InputError, QspaceError, WorkError
    from qspace_nd.gaussian import Gaussian
    from qspace_nd.model.novelty_model import NoveltyModel

__all__ = ["Gaussian", "InputError", "NoveltyModel", "QspaceError", "WorkError", "__version__"]

_HOMES = {
    "Gaussian": "gaussian",
    "InputError": "errors",
    "NoveltyModel": "model.novelty_model",
    "QspaceError": "errors",
    "WorkError": "errors",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command line's help needs none."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
