"""The table of scans' quality in the terminal."""

from __future__ import annotations

from collections.abc import Sequence

import rich.table

from qspace_nd.cli.printing import empty_table, plain_texts, widest
from qspace_nd.diffusion.outlying import FAR, LEAST
from qspace_nd.errors import listed
from qspace_nd.imaging.scans import Scan
from qspace_nd.workflows.checked_scan import CheckedScan
from qspace_nd.workflows.quality_table import LEAST_SHARE, voxel_size

_HEADER = "vol.", "b", "mm"
_FIGURES = {
    "mask\nml": ("mask_ml", "{:,.0f}"),
    "level": ("level", "{:,.4g}"),
    "SNR": ("snr", "{:.3g}"),
    "DWI\n%": ("weighted_percent", "{:.3g}"),
    "fit\n%": ("residual_percent", "{:.3g}"),
}
_SHELLS = 3  # that are named
_BAD = "bad\nvol."
_MEANING = (
    "Level: median b=0 signal in the mask. SNR: the level by the standard deviation from one b=0 "
    "volume to the next. DWI: the mean weighted signal, fit: the residual of the fit in spherical "
    "harmonics, both in % of b=0. Bad: volumes unlike what the other directions tell."
)
_MARKED = (
    f"*: far from the other scans: 0.6745 times its distance from their median is more than "
    f"{FAR:g} median absolute deviations, and it is more than {100 * LEAST_SHARE:g} % off."
)
_TOO_FEW = f"From {LEAST} scans on, what is far from the others is marked."


def render_quality(checked: Sequence[CheckedScan], *, width: int = 80) -> rich.table.Table:
    """Lay out for a terminal a line for each scan, with as many columns as there is room for."""
    names = _names(checked)
    few = sum(one.figures is not None for one in checked) < LEAST
    caption = f"{_MEANING} {_TOO_FEW if few else _MARKED}"

    def drawn(headers: Sequence[str]) -> rich.table.Table:
        figures = [*headers, *_FIGURES, _BAD]
        table = empty_table(["scan"], figures, title="Quality", caption=caption)
        for name, one in zip(names, checked, strict=True):
            header = dict(zip(_HEADER, _header(one.scan), strict=True))
            cells = [header[key] for key in headers] + _figures(one)
            table.add_row(*plain_texts([name, *cells]))
        return table

    return widest(map(drawn, (list(_HEADER), ["vol.", "b"], ["vol."], [])), width)


def _names(checked: Sequence[CheckedScan]) -> list[str]:
    """What to call the scans: by their names, where these differ, else by their paths."""
    names = [one.name or str(one.image) for one in checked]
    return names if len(set(names)) == len(names) else [str(one.image) for one in checked]


def _header(scan: Scan | None) -> tuple[str, str, str]:
    if scan is None:
        return "–", "–", "–"
    bvals = [] if scan.gradients is None else scan.gradients.weighted_bvals()
    sizes = voxel_size(scan)
    same = set(sizes.split("x"))
    shells = listed(bvals, _SHELLS) or "–"
    return str(scan.channels), shells, same.pop() if len(same) == 1 else sizes


def _figures(one: CheckedScan) -> list[str]:
    if one.figures is None:
        return ["–"] * (len(_FIGURES) + 1)
    cells = []
    for name, form in _FIGURES.values():
        value = getattr(one.figures, name)
        told = "–" if value is None else form.format(value)
        cells.append(told + "*" * (name in one.far))
    bad = one.figures.bad_volumes
    return [*cells, "–" if bad is None else str(len(bad))]
