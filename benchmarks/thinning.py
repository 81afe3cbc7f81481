"""Measure what it costs to compare with some of the healthy voxels alone.

    QSPACE_ND_DATA=... python benchmarks/thinning.py

Of each cohort one network is trained, on all voxels of its controls; patients are compared with all
of them, and with 1/4, 1/16 and 1/64 drawn at random, as many of each control (`fit --reference`).
Beside it the controls are fewer, with all their voxels, which shows whether people or voxels count.
The signal is simulated. Last, real scans: a person's, with changed tissue put into it, by the
voxels of one other person of the scanner (`implanted.py`).
"""

from __future__ import annotations

import argparse
import os
import shlex
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import numpy as np
import torch
from cohorts import Cohort, Design, Scan, real_lesion_masks
from implanted import KINDS, PAIRS, targets
from numpy.typing import NDArray
from results import table, write_section
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.diffusion.changes import Alteration
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy, Piece, draw, reference_parts
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.scores.reference import Reference
from qspace_nd.workflows.fit import fit_scans

HERE = Path(__file__).parent
SHARES = (1, 4, 16, 64)
"""One voxel in so many is kept."""


def designs(quick: bool) -> dict[str, Design]:
    """The cohorts, by what they are."""
    if quick:
        return {"2 controls": Design(801, 8.0, reference=2, left_out=0, patients=2)}
    few = {"left_out": 0, "patients": 4}
    return {
        "8 controls, real heads": Design(801, reference=8, people="development", **few),
        "24 controls, real heads": Design(802, reference=24, people="development", **few),
        "48 controls, one head deformed": Design(803, reference=48, **few),
    }


def figures(novelty: NDArray[np.float32], scan: Scan) -> list[float]:
    """AUC and average precision in the brain, and in white matter."""
    inside = scan.white_matter | scan.labels
    return [
        figure(labels, scores)
        for labels, scores in ((scan.labels, novelty), (scan.labels[inside], novelty[inside]))
        for figure in (roc_auc_score, average_precision_score)
    ]


def thinned(model: NoveltyModel, healthy: list[Healthy], most: int | None) -> int:
    """Let a model compare with at most so many voxels; how many they are."""
    parts = reference_parts(healthy, model.network_, most, model.seed)
    model.reference_ = Reference([part.encoded() for part in parts])
    return len(model.reference_)


def measured(model: NoveltyModel, patients: tuple[Scan, ...]) -> list[str]:
    """Mean figures of patients, and seconds for each, as cells."""
    found, start = [], time.perf_counter()
    for patient in patients:
        found.append(figures(model.novelty(patient.x, DEFAULT_SCORE), patient))
    seconds = (time.perf_counter() - start) / len(patients)
    return [*(f"{value:.3f}" for value in np.mean(found, axis=0)), f"{seconds:.1f}"]


def of_cohort(name: str, cohort: Cohort, quick: bool) -> Iterator[list[str]]:
    """A row for each share of the voxels, and for each share of the controls."""
    healthy = [Healthy(scan.name, scan.x) for scan in cohort.reference]
    model = NoveltyModel(epochs=1 if quick else None).fit_parts(healthy)
    patients, total = cohort.patients(), sum(len(one.rows) for one in healthy)
    for share in SHARES:
        voxels = thinned(model, healthy, total // share)
        yield [f"{name}: 1/{share} of the voxels", f"{voxels:,}", *measured(model, patients)]
    for share in SHARES[1:]:
        some = healthy[: max(1, len(healthy) // share)]
        if len(some) * share == len(healthy):
            voxels = thinned(model, some, None)
            row = f"{name}: all voxels of {len(some)} of the controls"
            yield [row, f"{voxels:,}", *measured(model, patients)]


def of_real_scans(data: Path) -> Iterator[list[str]]:
    """Of changed white matter in a real scan, the AUC by each share of another person's voxels."""
    for name, (files, angle) in PAIRS.items():
        paths, reading = [data / file for file in files], ScanOptions(max_angle=angle)
        with tempfile.TemporaryDirectory() as folder:
            how: dict[str, Any] = {"template": True, "options": reading}
            model = fit_scans(paths, NoveltyModel(device="cpu"), Path(folder) / "model", **how)
            whole = model.reference_
            for target in targets(model, paths, reading):
                for share in SHARES:
                    model.reference_ = _one_in(whole, share)
                    yield [
                        f"{name}: {target.subject}, 1/{share}",
                        *(f"{auc:.3f}" for auc in _implanted(model, target)),
                    ]
                model.reference_ = whole


def _one_in(whole: Reference, share: int) -> Reference:
    parts = []
    for part in whole.parts:
        rows = part.views.x.numpy()
        healthy = Healthy(part.subject, rows)
        (chosen,) = draw([Piece(part.subject, rows, 0, len(rows))], len(rows) // share, 0)
        network = part.views.network
        kept = Healthy(healthy.subject, rows[chosen])
        parts += reference_parts([kept], network, None, 0)
    return Reference([part.encoded() for part in parts])


def _implanted(model: NoveltyModel, target: Any) -> Iterator[float]:
    acquisition = model.acquisition_
    assert acquisition is not None
    assert acquisition.gradients is not None
    means, healthy = acquisition.channel_means, target.voxels.values
    for change, _ in KINDS.values():
        signals = healthy.copy()
        alteration = Alteration(change, acquisition.gradients, np.ones_like(means))
        signals[target.lesion] = alteration(healthy[target.lesion])
        novelty = model.novelty(signals / means, DEFAULT_SCORE, leave_out=target.subject)
        yield float(roc_auc_score(target.lesion, novelty))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--jobs", type=int, default=1, help="processes that simulate")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="tiny; to see that it runs")
    options = parser.parse_args()
    masks = () if options.quick else real_lesion_masks()
    rows, real = [], []
    for name, design in designs(options.quick).items():
        cohort = Cohort(design, masks, options.jobs, None if options.quick else options.cache)
        torch.set_num_threads(cohort.jobs)
        for row in of_cohort(name, cohort, options.quick):
            rows.append(row)
            print(row, flush=True)
    if not options.quick:
        for row in of_real_scans(Path(os.environ["QSPACE_ND_DATA"])):
            real.append(row)
            print(row, flush=True)
    command = shlex.join(["python", "benchmarks/thinning.py", "--jobs", str(options.jobs)])
    header = ["simulated", "voxels", "AUC, brain", "AP, brain"]
    header += ["AUC, white matter", "AP, white matter", "seconds a patient"]
    text = (
        "## The price of a thinned reference\n\n"
        f"`{command}`: latent-distance, four patients with demyelinating lesions, mean. One "
        "network a cohort, trained on all voxels of its controls.\n\n" + table(header, rows)
    )
    if real:
        text += (
            "\n\nReal scans, changed white matter (simulated) among all the brain's voxels, AUC; "
            "the reference is one other person of the scanner.\n\n" + table(["real", *KINDS], real)
        )
    write_section(options.output / "RESULTS.md", "thinning", text)


if __name__ == "__main__":
    main()
