"""Measure on people who took no part whether maps mean what they say.

    QSPACE_ND_DATA=... python benchmarks/calibration.py --stage development
    QSPACE_ND_DATA=... python benchmarks/calibration.py --stage final

Scans are simulated on segmented anatomies of real people, written as files, and go through `fit`
and `map` as a user's do. Of controls whom the model does not know it is counted what share of the
voxels has p below 1 % and 0.1 %, and how many clusters there are where how many were expected; of
patients, which lesions the clusters find. The people of the two stages are others.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import nibabel as nib
import numpy as np
import pandas as pd
from cohorts import anatomies
from numpy.typing import NDArray
from results import table, write_section

from qspace_nd import NoveltyModel, fit_scans, map_scans
from qspace_nd.evaluation.froc import are_hits
from qspace_nd.imaging.connected import LEAST_VOXELS, connected, with_rim
from qspace_nd.simulation.cohort import simulate_cohort

HERE = Path(__file__).parent
SEEDS = {"development": 7001, "final": 9701}
SHARES = (0.01, 0.001)
EXPECTED = (1, 2, 5)


@dataclass(frozen=True)
class Newcomer:
    """What the maps of a person whom the model does not know say."""

    shares: tuple[float, ...]
    clusters: pd.DataFrame
    hits: NDArray[np.bool_]
    lesions: int
    found: int
    beyond_found: int


def read(name: str, lesions: Path | None) -> Newcomer:
    """Read a scan's maps, and hold its clusters against its lesions, where it has some."""
    mask = nib.load(f"maps/{name}_novelty_mask.nii.gz").get_fdata() > 0
    logp = nib.load(f"maps/{name}_novelty_neglogp.nii.gz").get_fdata()[mask]
    shares = tuple(float(np.mean(logp > -np.log10(share))) for share in SHARES)
    clusters = pd.read_csv(f"maps/{name}_novelty_clusters.tsv", sep="\t")
    if lesions is None:
        return Newcomer(shares, clusters, np.zeros(len(clusters), bool), 0, 0, 0)
    labels = np.asarray(nib.load(f"maps/{name}_novelty_clusters.nii.gz").dataobj)
    lesion = (nib.load(lesions).get_fdata() > 0.5) & mask
    each, number = connected(lesion)
    hits = are_hits(labels, len(clusters), with_rim(lesion))
    beyond = np.append(False, clusters["healthy_people"] == 0)
    found = [np.count_nonzero(np.unique(each[some[labels]])) for some in (hits, hits & beyond)]
    return Newcomer(shares, clusters, hits[1:], number, found[0], found[1])


def measure(stage: str, reference: int, left_out: int, patients: int, folder: Path) -> list[str]:
    """Simulate, fit and map a cohort; give the lines of its section."""
    people = folder / "people"
    people.mkdir()
    for path in anatomies(stage):
        (people / path.name).symlink_to(path)
    simulate_cohort(
        folder / "cohort",
        controls=reference + left_out,
        patients=patients,
        layout="flat",
        seed=SEEDS[stage],
        anatomies=people,
        nuisance="rough",
    )
    with chdir(folder / "cohort"):
        controls = sorted(Path("healthy").glob("control-??.nii.gz"))
        sick = sorted(Path().glob("patient*[0-9].nii.gz")) or [Path("patient.nii.gz")]
        fit_scans(controls[:reference], NoveltyModel(), "model", template=False)
        map_scans([*controls[reference:], *sick], "model", "maps")
        healthy = [read(path.name.removesuffix(".nii.gz"), None) for path in controls[reference:]]
        ill = [
            read(
                path.name.removesuffix(".nii.gz"),
                path.with_name(path.name.replace("patient", "lesions")),
            )
            for path in sick
        ]
    return lines(healthy, ill, reference)


def lines(healthy: list[Newcomer], ill: list[Newcomer], reference: int) -> list[str]:
    """Lay out what was found."""
    rows = []
    for number, share in enumerate(SHARES):
        realised = np.array([one.shares[number] for one in healthy]) / share
        rows.append([f"p below {share}", f"{realised.mean():.2f}", f"{realised.max():.2f}"])
    voxels = table(["share of newcomers' voxels, by the nominal", "mean", "worst"], rows)
    counts = [
        np.mean([(one.clusters["expected"] <= number).sum() for one in healthy])
        for number in EXPECTED
    ]
    clusters = table(
        ["clusters so large that so many are expected", *map(str, EXPECTED)],
        [["counted in a newcomer, mean", *(f"{count:.2f}" for count in counts)]],
    )
    lesions = sum(one.lesions for one in ill)
    rows = []
    for group, what in ((healthy, "newcomers"), (ill, "patients")):
        beyond = [one.clusters["healthy_people"] == 0 for one in group]
        hits = [(one.hits & larger).sum() for one, larger in zip(group, beyond, strict=True)]
        found = f"{sum(one.beyond_found for one in group)} of {lesions}" if group is ill else "–"
        mean = f"{np.mean([larger.sum() for larger in beyond]):.2f}"
        rows.append([f"{len(group)} {what}", mean, f"{np.mean(hits):.2f}", found])
    beyond_all = table(["clusters larger than the reference's", "a scan", "hits", "lesions"], rows)
    return [
        voxels,
        clusters,
        beyond_all,
        f"All clusters of the patients together find {sum(one.found for one in ill)} of the "
        f"{lesions} lesions of {LEAST_VOXELS} voxels or more. One newcomer in {reference + 1} has "
        f"a cluster larger than all of the reference's by chance.",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=SEEDS, required=True)
    parser.add_argument("--reference", type=int, default=8)
    parser.add_argument("--left-out", type=int, default=6)
    parser.add_argument("--patients", type=int, default=4)
    options = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(
            options.stage, options.reference, options.left_out, options.patients, Path(folder)
        )
    minutes = (time.monotonic() - start) / 60
    command = shlex.join(["python", "benchmarks/calibration.py", *sys.argv[1:]])
    text = (
        f"## What maps mean, by newcomers ({options.stage}, simulated)\n\n`{command}` "
        f"({minutes:.0f} minutes): `latent-distance`, {options.reference} controls to learn from, "
        f"{options.left_out} newcomers and {options.patients} patients, all different people's "
        "heads with simulated signal; nothing was chosen by them. The method knows neither place "
        "nor sign.\n\n"
    )
    write_section(HERE / "RESULTS.md", f"calibration-{options.stage}", text + "\n\n".join(found))
    print(text + "\n\n".join(found))


if __name__ == "__main__":
    main()
