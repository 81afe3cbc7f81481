"""Choose, on cohorts of development, by what maps are compared with healthy people's.

    QSPACE_ND_DATA=... python benchmarks/statistic.py

How widely maps are smoothed, how scans are brought to one level, above which healthy share voxels
form clusters, and by what clusters are ordered: mass, extent, height, or the peak in the map that
threshold-free cluster enhancement makes (the package `tfce`). Each is judged by the lesions found
at 1, 2 and 5 clusters a scan that are expected in a healthy person, of people who took no part; and
by their share of voxels with p below 1 %, over the nominal one.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from calibration import DIRECTED, UNDIRECTED, designs, maps_of
from cohorts import Cohort, Scan, real_lesion_masks
from comparing import FALSE
from numpy.typing import NDArray
from placed_peers import place_all, placed_model
from results import table, write_section
from scipy import ndimage
from tfce import tfce

from qspace_nd.arrays import Float32
from qspace_nd.calibration.clusters import logp_of
from qspace_nd.calibration.comparable import BULK
from qspace_nd.calibration.null import HealthyMap, Null
from qspace_nd.evaluation.froc import are_hits
from qspace_nd.imaging.connected import connected, with_rim
from qspace_nd.imaging.smoothing import smooth_inside

HERE = Path(__file__).parent
SCORES = (UNDIRECTED[0], DIRECTED[0])
WIDTHS = (0.0, 4.0, 6.0)
LEVELS = {"none": None, "quartiles": (0.25, 0.75), "median, 90th percentile": BULK}
SHARES = (0.1, 0.05, 0.02, 0.01, 0.005)
ORDERS = ("mass", "extent", "height", "TFCE")

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Clusters:
    """A scan's clusters by each of `ORDERS` (4, k), the hits, the lesions of each and of all."""

    by: Values
    hits: NDArray[np.bool_]
    finds: list[set[int]]
    lesions: int


def prepared(scan: Scan, novelty: Float32, width: float) -> Float32:
    """A map (n,) smoothed inside the brain."""
    if not width:
        return novelty
    sizes = np.linalg.norm(scan.affine[:3, :3], axis=0)
    return smooth_inside(scan.volume(novelty), scan.mask, sizes, width)[scan.mask]


def levelled(maps: Sequence[Float32], healthy: int, level: tuple[float, float] | None) -> list:
    """Maps brought to the mean level of the first of them, which are of healthy people."""
    if level is None:
        return list(maps)
    own = [np.quantile(one, level) for one in maps]
    low, high = np.mean(own[:healthy], axis=0)
    return [
        (low + (one - a) * (high - low) / (b - a)).astype(np.float32)
        for one, (a, b) in zip(maps, own, strict=True)
    ]


def clusters_of(scan: Scan, p: Values, share: float) -> Clusters:
    """The clusters of a scan's p-values (n,) below a share."""
    logp = scan.volume(logp_of(p))
    above = logp + np.log10(share)
    labels, count = connected((above > 0) & scan.mask)
    numbers = np.arange(1, count + 1)
    lesion = scan.volume(scan.labels, False)
    each, lesions = connected(lesion)
    by = [
        ndimage.sum_labels(above, labels, numbers),
        np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(float),
        ndimage.maximum(above, labels, numbers) if count else [],
        ndimage.maximum(tfce(logp), labels, numbers) if count else [],
    ]
    finds = [set(np.unique(each[labels == number]).tolist()) - {0} for number in numbers]
    return Clusters(
        np.array(by, float), are_hits(labels, count, with_rim(lesion))[1:], finds, lesions
    )


def judge(scans: Sequence[Scan], maps: Sequence[Float32], healthy: int, share: float) -> Values:
    """The share of lesions found by each order at each of `FALSE`: (4, 3); then 2 of voxels."""
    null = Null([HealthyMap(s.name, m) for s, m in zip(scans, maps[:healthy], strict=False)])
    people = list(zip(scans, maps, strict=True))
    own = [
        clusters_of(scan, null.p_values_of_others(scan.name, one), share)
        for scan, one in people[:healthy]
    ]
    p = [null.p_values(one) for _, one in people[healthy:]]
    others = [clusters_of(s, q, share) for (s, _), q in zip(people[healthy:], p, strict=True)]
    ill = [one for one in others if one.lesions]
    found = np.zeros((len(ORDERS), len(FALSE)))
    for order, (column, number) in product(range(len(ORDERS)), enumerate(FALSE)):
        values = np.sort(np.concatenate([one.by[order] for one in own]))[::-1]
        least = values[number * healthy] if number * healthy < len(values) else -np.inf
        for one in ill:
            chosen = np.flatnonzero(one.hits & (one.by[order] > least))
            found[order, column] += len(set[int]().union(*(one.finds[i] for i in chosen)))
    found /= sum(one.lesions for one in ill)
    realised = [
        np.mean(q < 0.01) / 0.01
        for (scan, _), q in zip(people[healthy:], p, strict=True)
        if not scan.labels.any()
    ]
    return np.array([*found.ravel(), np.mean(realised), np.max(realised)])


def rows_of(cohorts: Sequence[tuple[list[Scan], int, list[dict[str, Float32]]]]) -> list[list[str]]:
    """A row for each choice, of means over cohorts."""
    rows = []
    for name, width in product(SCORES, WIDTHS):
        smooth = [
            [prepared(scan, own[name], width) for scan, own in zip(scans, maps, strict=True)]
            for scans, _, maps in cohorts
        ]
        for (level, bulk), share in product(LEVELS.items(), SHARES):
            figures = np.mean(
                [
                    judge(scans, levelled(maps, healthy, bulk), healthy, share)
                    for (scans, healthy, _), maps in zip(cohorts, smooth, strict=True)
                ],
                axis=0,
            )
            texts = [
                " / ".join(f"{figure:.2f}" for figure in some)
                for some in figures[:-2].reshape(4, 3)
            ]
            voxels = [f"{figure:.2f}" for figure in figures[-2:]]
            rows.append([name, f"{width:g} mm", level, f"{100 * share:g} %", *texts, *voxels])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate and register")
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    options = parser.parse_args()
    masks, cohorts = real_lesion_masks(), []
    for design in designs("development", 8, 8):
        cohort = Cohort(design, masks, options.jobs, options.cache)
        scans = [*cohort.reference, *cohort.left_out, *cohort.patients()]
        torch.set_num_threads(cohort.jobs)
        place_all(cohort, scans)
        placed_model(cohort)
        healthy = len(cohort.reference)
        maps = [
            dict(maps_of(cohort, scan, scan.name if number < healthy else None))
            for number, scan in enumerate(scans)
        ]
        torch.set_num_threads(1)
        cohorts.append((scans, healthy, maps))
        print(f"{design.name} is mapped", flush=True)
    command = shlex.join(["python", "benchmarks/statistic.py", "--jobs", str(options.jobs)])
    header = ["score", "smoothing", "level", "share", *ORDERS, "p < 1 %, mean", "worst"]
    text = (
        "## By what maps are compared (development, simulated)\n\n"
        f"`{command}`: the choice was made by this. Two cohorts of 12 and 8 controls, 8 newcomers "
        "and 8 patients each, simulated signal on real people's heads; means over the two. "
        "Lesions found where 1, 2 and 5 clusters are expected in a healthy scan, by mass, extent, "
        "height and the peak of threshold-free cluster enhancement; and newcomers' share of voxels "
        "with p below 1 %, over the nominal one.\n\n"
    )
    text += table(header, rows_of(cohorts))
    write_section(options.output / "RESULTS.md", "statistic", text)
    print(text)


if __name__ == "__main__":
    main()
