"""The table of scans' quality: a line a scan, and which of its figures are far from the others'."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qspace_nd.diffusion.outlying import FAR, LEAST, modified_z
from qspace_nd.errors import OutputError, counted, listed
from qspace_nd.imaging.figures import Figures
from qspace_nd.imaging.scans import Scan
from qspace_nd.system.writing import require_writable
from qspace_nd.workflows.checked_scan import CheckedScan

LEAST_SHARE = 0.05
"""How far from the median, as a share of it, an outlier is at least: less does no harm."""

COMPARED = {
    "mask_ml": "a mask volume of {:,.0f} ml",
    "level": "a level of {:,.4g}",
    "snr": "a signal to noise of {:.3g}",
    "weighted_percent": "a weighted signal of {:.3g} % of b=0",
    "residual_percent": "a residual of {:.3g} % of b=0",
}
"""The figures that are compared between scans, and how one is said."""

COLUMNS = (
    *("scan", "usable", "unlike_protocol", "volumes", "shells", "voxel_size_mm"),
    *COMPARED,
    *("bad_volumes", "bad_volume_numbers", "far_from_others"),
)


def require_table(path: Path, *, force: bool) -> None:
    """Check that a table can be written, before any work.

    Raises
    ------
    OutputError
        Its name does not end with .tsv, it exists and `force` is not set, or nothing can be
        written there.
    """
    if path.suffix != ".tsv":
        raise OutputError(f"{path} is to be a table; expected a name that ends with .tsv.")
    require_writable([path], force=force)


def mark_far(checked: Sequence[CheckedScan]) -> list[CheckedScan]:
    """Mark figures that are far from those of the other scans, and warn of them.

    Far is a figure whose modified z (`outlying.modified_z`) is above `FAR` in size and which is
    more than `LEAST_SHARE` off the median of all; of fewer than `LEAST` scans nothing is told.
    """
    told: list[dict[str, float]] = [{} for _ in checked]
    for name in COMPARED:
        values = {
            at: value
            for at, one in enumerate(checked)
            if one.figures is not None and (value := getattr(one.figures, name)) is not None
        }
        for at, median in _far(values):
            told[at][name] = median
    return [_marked(one, medians) for one, medians in zip(checked, told, strict=True)]


def _far(values: dict[int, float]) -> Iterator[tuple[int, float]]:
    """Which of the scans' values are far, and the median."""
    if len(values) < LEAST:
        return
    median = float(np.median(list(values.values())))
    for (at, value), z in zip(values.items(), modified_z([*values.values()]), strict=True):
        if abs(z) > FAR and abs(value - median) > LEAST_SHARE * abs(median):
            yield at, median


def _marked(one: CheckedScan, medians: dict[str, float]) -> CheckedScan:
    if not medians:
        return one
    found = [
        f"{COMPARED[name].format(getattr(one.figures, name))}, where the median is "
        f"{COMPARED[name].format(median).split(' of ', 1)[1]}"
        for name, median in medians.items()
    ]
    warning = (
        f"{one.image} is far from the other scans: it has {'; '.join(found)}; look at it and "
        f"at its mask before you use it."
    )
    return replace(one, warnings=(*one.warnings, warning), far=frozenset(medians))


def to_tsv(checked: Sequence[CheckedScan]) -> str:
    """The table as text with a header; `n/a` stands for what is not known, as in BIDS."""
    lines = [COLUMNS, *map(_line, checked)]
    return "".join("\t".join(line) + "\n" for line in lines)


def _line(one: CheckedScan) -> tuple[str, ...]:
    figures = [
        _number(None if one.figures is None else getattr(one.figures, name)) for name in COMPARED
    ]
    far = ",".join(name for name in COMPARED if name in one.far)
    return (
        re.sub(r"[\t\r\n]", " ", str(one.image)),
        _yes(one.problem is None),
        "n/a" if one.scan is None else _yes(one.differs),
        *_header(one.scan),
        *figures,
        *_bad(one.figures),
        far or "n/a",
    )


def _header(scan: Scan | None) -> tuple[str, str, str]:
    if scan is None:
        return ("n/a",) * 3
    shells = "n/a" if scan.gradients is None else scan.gradients.shells()
    return str(scan.channels), shells, voxel_size(scan)


def _bad(figures: Figures | None) -> tuple[str, str]:
    if figures is None or figures.bad_volumes is None:
        return "n/a", "n/a"
    return str(len(figures.bad_volumes)), ",".join(map(str, figures.bad_volumes)) or "n/a"


def voxel_size(scan: Scan) -> str:
    """A scan's voxel size in mm, as in `2x2x2.5`."""
    return "x".join(f"{size:.4g}" for size in scan.grid.voxel_sizes)


def protocol_sentence(checked: Sequence[CheckedScan], *, model: bool) -> str | None:
    """Say which scans are unlike the model, or most scans; None where all are alike."""
    opened = [one for one in checked if one.scan is not None]
    unlike = [str(one.image) for one in opened if one.differs]
    if not unlike:
        return None
    of_most = next((one for one in opened if not one.differs and one.figures is not None), None)
    if model or of_most is None or of_most.scan is None:
        return f"Unlike the {'model' if model else 'others'}: {listed(unlike)}."
    scan = of_most.scan
    shells = "" if scan.gradients is None else f" ({scan.gradients.shells()})"
    return (
        f"Most are like {of_most.image}: {counted(scan.channels, 'volume')}{shells}, voxels of "
        f"{voxel_size(scan)} mm. Unlike them: {listed(unlike)}."
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.6g}"


def _yes(told: bool) -> str:
    return "yes" if told else "no"
