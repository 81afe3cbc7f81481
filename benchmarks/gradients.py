"""A cohort in which every subject has their own gradient directions, beside one with one table.

    QSPACE_ND_DATA=... python benchmarks/gradients.py

The heads, lesions and noise are the same; the directions of a subject are the cohort's 40, turned
at random.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from cohorts import Rows, Values, real_lesion_masks
from numpy.typing import NDArray
from results import write_section
from scipy.spatial.transform import Rotation
from sklearn.metrics import roc_auc_score

from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.normalise import channel_means, divide_by_scan_mean
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.simulation.cohort import Simulation

HERE = Path(__file__).parent

COLUMNS = (("latent-distance", 1), ("latent-distance", 10), ("input-distance", 10))
"""The scores, and how many nearest voxels they are the mean distance to."""

Signals = list[tuple[Values, NDArray[np.bool_], GradientTable]]
"""Of each subject: voxels (n, C), which are lesion, and the gradient table."""


def simulated(
    simulation: Simulation, controls: int, patients: int, *, own: bool
) -> tuple[Signals, Signals]:
    """Simulate the cohort, controls and patients, with one table or everybody's own."""

    def table(purpose: int, index: int) -> GradientTable:
        shared = simulation.table
        if not own:
            return shared
        rng = np.random.default_rng((simulation.seed, purpose, index))
        return GradientTable(shared.bvals, Rotation.random(rng=rng).apply(shared.directions))

    def subjects(purpose: int, number: int) -> Iterator[tuple[Values, Rows, GradientTable]]:
        simulate = (simulation.control, simulation.patient)[purpose]
        for index in range(number):
            subject = simulate(index, table(purpose, index))
            yield subject.signal[subject.mask], subject.labels[subject.mask], table(purpose, index)

    return list(subjects(0, controls)), list(subjects(1, patients))


def auc(
    simulation: Simulation, cohort: tuple[Signals, Signals], *, resampled: bool, epochs: int | None
) -> NDArray[np.float64]:
    """AUC of each patient (rows) by each of `COLUMNS`."""

    def prepared(signal: Values, table: GradientTable) -> Values:
        if resampled:
            return Resampling(simulation.table, table, "a scan")(signal)
        signal = signal.copy()
        divide_by_scan_mean(signal)
        return signal

    healthy = [prepared(signal, table) for signal, _, table in cohort[0]]
    means = channel_means(healthy)
    groups = np.repeat(np.arange(len(healthy)), [len(x) for x in healthy])
    model = NoveltyModel(epochs=epochs, device="cpu")
    model.fit(np.concatenate(healthy) / means, groups=groups)
    return np.array(
        [
            [
                roc_auc_score(lesion, model.novelties(x, [score], neighbours=k)[score])
                for score, k in COLUMNS
            ]
            for signal, lesion, table in cohort[1]
            for x in [prepared(signal, table) / means]
        ]
    )


def markdown(rows: Sequence[tuple[str, NDArray[np.float64]]], text: str) -> str:
    names = [f"{score}, nearest" if k == 1 else f"{score}, mean of {k}" for score, k in COLUMNS]
    lines = [f"| gradients | {' | '.join(names)} |", "| --- |" + " ---: |" * len(names)]
    for name, values in rows:
        figures = [f"{v.mean():.3f} ({v.min():.3f} to {v.max():.3f})" for v in values.T]
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return "\n".join(["## Gradient tables that differ", "", text, "", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("-o", "--output", type=Path, default=None, help="default: RESULTS.md here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    size, controls, patients, epochs = (8.0, 2, 1, 1) if options.quick else (3.5, 6, 3, None)
    masks = [] if options.quick else real_lesion_masks()
    simulation = Simulation(voxel_size=size, lesion_masks=masks, seed=601)
    one = simulated(simulation, controls, patients, own=False)
    own = simulated(simulation, controls, patients, own=True)
    rows = []
    for name, cohort, resampled in (
        ("one table", one, False),
        ("one table, resampled", one, True),
        ("everybody's own, resampled", own, True),
        ("everybody's own, taken as one table", own, False),
    ):
        rows.append((name, auc(simulation, cohort, resampled=resampled, epochs=epochs)))
        print(name, rows[-1][1].round(4).tolist(), flush=True)
    command = shlex.join(["python", "benchmarks/gradients.py", *sys.argv[1:]])
    text = (
        f"Mean AUC (least to most) over {patients} patients, {controls} controls, voxels of "
        f"{size:g} mm, 6 b=0 volumes and 40 directions at b=1200; `{command}`."
    )
    table = markdown(rows, text)
    print(table)
    output = options.output or (HERE / ".cache" if options.quick else HERE) / "RESULTS.md"
    output.parent.mkdir(exist_ok=True)
    write_section(output, "gradients", table)


if __name__ == "__main__":
    main()
