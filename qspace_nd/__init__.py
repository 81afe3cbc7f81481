"""Find abnormal tissue in diffusion MRI without lesion labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qspace_nd._version import __version__

if TYPE_CHECKING:
    from qspace_nd.errors import InputError, QspaceError, WorkError
    from qspace_nd.gaussian import Gaussian
    from qspace_nd.imaging.protocol import ScanOptions
    from qspace_nd.model.novelty_model import NoveltyModel
    from qspace_nd.plotting import plot_mosaic
    from qspace_nd.system.machine import Machine
    from qspace_nd.workflows.add import add_scans
    from qspace_nd.workflows.check import check_scans
    from qspace_nd.workflows.evaluate import evaluate_maps
    from qspace_nd.workflows.fit import fit_scans
    from qspace_nd.workflows.map import map_scans
    from qspace_nd.workflows.report import report_maps
    from qspace_nd.workflows.settings import MapSettings

__all__ = [
    "Gaussian",
    "InputError",
    "Machine",
    "MapSettings",
    "NoveltyModel",
    "QspaceError",
    "ScanOptions",
    "WorkError",
    "__version__",
    "add_scans",
    "check_scans",
    "evaluate_maps",
    "fit_scans",
    "map_scans",
    "plot_mosaic",
    "report_maps",
]

_HOMES = {
    "Gaussian": "gaussian",
    "InputError": "errors",
    "Machine": "system.machine",
    "MapSettings": "workflows.settings",
    "NoveltyModel": "model.novelty_model",
    "QspaceError": "errors",
    "ScanOptions": "imaging.protocol",
    "WorkError": "errors",
    "add_scans": "workflows.add",
    "check_scans": "workflows.check",
    "evaluate_maps": "workflows.evaluate",
    "fit_scans": "workflows.fit",
    "map_scans": "workflows.map",
    "plot_mosaic": "plotting",
    "report_maps": "workflows.report",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: the command line's help needs none."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from qspace_nd.system.surroundings import require_home

    require_home()  # before any library is imported that asks for it
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """Name what is handed out, for a shell that completes names."""
    return sorted({*globals(), *__all__})
