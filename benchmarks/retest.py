"""Measure on real scans whether a person's maps say the same twice, and what another site's say.

    QSPACE_ND_DATA=... python benchmarks/retest.py

Everything goes through files, as a user's scans do. Of each scanner there are two people at most:
a model is of one of them, and four are wanted for p-values and clusters. So the voxels that are
among the 5 % most novel of the smoothed map stand for clusters. Runs of one person are compared
where both have brain, in the scanner's space: nothing is registered, and what the head moved counts
against us.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
from nibabel.affines import apply_affine
from results import table, write_section
from scipy import ndimage, stats

from qspace_nd import NoveltyModel, fit_scans, map_scans
from qspace_nd.errors import InputError
from qspace_nd.imaging.connected import connected
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.imaging.smoothing import smooth_inside
from qspace_nd.layouts.maps import MapFiles

HERE = Path(__file__).parent
SHARE = 0.05
FWHM = 4.0


class Said(logging.Handler):
    """What was warned of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


def alike(
    one: MapFiles, other: MapFiles, motion: np.ndarray | None = None
) -> tuple[float, float, float]:
    """Spearman's r of two maps and of the smoothed, and Dice of the clusters of these.

    `motion` (4, 4) brings the world of the one to that of the other, where the head lay elsewhere.
    """
    maps, smooth, clusters, masks, grids = [], [], [], [], []
    for files in (one, other):
        (path,) = files.maps.values()
        (values, grid), (mask, _) = read_volume(path), read_volume(files.mask)
        inside = mask > 0
        blurred = smooth_inside(values, inside, grid.voxel_sizes, FWHM)
        high = blurred > np.quantile(blurred[inside], 1 - SHARE)
        maps.append(values)
        smooth.append(blurred)
        clusters.append((connected(high & inside)[0] > 0).astype(np.float32))
        masks.append(mask)
        grids.append(grid)
    points = apply_affine(grids[0].affine, np.argwhere(masks[0] > 0))
    moved = points if motion is None else apply_affine(motion, points)
    at = apply_affine(np.linalg.inv(grids[1].affine), moved).T

    def there(volume: np.ndarray, order: int) -> np.ndarray:
        return ndimage.map_coordinates(volume, at, order=order, cval=0)

    both = there(masks[1], 0) > 0
    own = [volume[masks[0] > 0][both] for volume in (maps[0], smooth[0], clusters[0])]
    others = [there(maps[1], 1), there(smooth[1], 1), there(clusters[1], 0)]
    others = [values[both] for values in others]
    overlap = 2 * np.sum((own[2] > 0) & (others[2] > 0))
    dice = overlap / (np.count_nonzero(own[2]) + np.count_nonzero(others[2]))
    r = [float(stats.spearmanr(own[i], others[i]).statistic) for i in (0, 1)]
    return r[0], r[1], float(dice)


def study(
    healthy: Sequence[Path], scans: Sequence[Path], options: ScanOptions, folder: Path
) -> tuple[list[list[str]], list[str]]:
    """Fit on one person, map the runs of another; give figures of each pair, and warnings."""
    said = Said()
    logging.getLogger("qspace_nd").addHandler(said)
    fit_scans(healthy, NoveltyModel(), folder / "model", template=False, options=options)
    told = len(said.messages)
    files = map_scans(scans, folder / "model", folder / "maps", options=options)
    logging.getLogger("qspace_nd").removeHandler(said)
    pairs = combinations(range(len(scans)), 2)
    rows = [
        [f"{scans[a].name.split('.')[0]}, {scans[b].name.split('.')[0]}"]
        + [f"{value:.2f}" for value in alike(files[a], files[b])]
        for a, b in pairs
    ]
    return rows, said.messages[told:]


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    data = Path(os.environ["QSPACE_ND_DATA"])
    uih = {sub: sorted((data / "uih" / sub / "dwi").glob("*.nii.gz")) for sub in ("sub-A", "sub-B")}
    galan = sorted((data / "galan" / "sub-01" / "dwi").glob("*.nii.gz"))
    toshiba = sorted((data / "real" / "toshiba").glob("*.nii.gz"))
    straight = [path for path in galan if "ortho" in path.name]
    plain, turned = ScanOptions(), ScanOptions(max_angle=21)
    studies = [
        ("uih: a model of sub-A, runs of sub-B", uih["sub-A"], uih["sub-B"], plain),
        (
            "galan's scanner: a model of toshiba's person, straight runs of galan's",
            toshiba[:1],
            straight,
            plain,
        ),
        (
            "The same with the run whose slab is tilted by 20 degrees, by `--max-angle 21`: 12 "
            "directions are too few to resample",
            toshiba[:1],
            galan,
            turned,
        ),
        (
            "galan's scanner: a model of galan's person, runs of toshiba's, the second tilted, by "
            "`--max-angle 21`",
            straight,
            toshiba,
            turned,
        ),
    ]
    parts = [
        "## The same person twice, and another site (real scans)",
        "`python benchmarks/retest.py`: `latent-distance`; a model of one person each, so that no "
        "p-value can be told. Spearman's r of the maps and of the maps smoothed by 4 mm; Dice of "
        "the clusters of the latter's 5 % most novel voxels; where both runs have brain, without "
        "registration.",
    ]
    for title, healthy, scans, options in studies:
        with tempfile.TemporaryDirectory() as folder:
            rows, said = study(healthy, scans, options, Path(folder))
        header = ["runs", "r", "r, smoothed", "Dice"]
        parts += [f"{title}:", table(header, rows)]
        parts += ["\n".join(f"- {one}" for one in dict.fromkeys(_bare(text) for text in said))]
    with tempfile.TemporaryDirectory() as folder:
        fit_scans(straight, NoveltyModel(), Path(folder) / "model", template=False)
        others = [uih["sub-B"][0], *sorted((data / "real").glob("[dp]*/*.nii.gz"))]
        parts.append("Scans of other sites, by the model of galan's person:")
        lines = []
        for scan in others:
            try:
                map_scans([scan], Path(folder) / "model", Path(folder) / "maps")
                lines.append(f"- {scan.parent.name}/{scan.name}: mapped")
            except InputError as error:
                lines.append(f"- {_bare(str(error))}")
        parts.append("\n".join(lines))
    text = "\n\n".join(part for part in parts if part)
    write_section(HERE / "RESULTS.md", "retest", text)
    print(text)


def _bare(text: str) -> str:
    """A sentence without the folders of this machine."""
    return text.replace(os.environ["QSPACE_ND_DATA"].rstrip("/") + "/", "")


if __name__ == "__main__":
    main()
