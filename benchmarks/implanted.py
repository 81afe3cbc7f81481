"""Put changed tissue into real people's scans, and see by which score it stands out.

    QSPACE_ND_DATA=... python benchmarks/implanted.py

A model is fitted on real scans of two people of one scanner, with their template, and each person's
scan is mapped with their own voxels left out: the reference is one other person. In balls of white
matter the signal is changed by what a change does to a fitted diffusion tensor. The lesions are
simulated, the people, their scans and their differences are real.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from results import table, write_section
from sklearn.metrics import roc_auc_score

from qspace_nd.diffusion.changes import Alteration, Change
from qspace_nd.imaging.protocol import (
    DEFAULT_OPTIONS,
    ScanOptions,
    open_scans,
    protocol_of,
    read_scan,
)
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.placing import Placer

HERE = Path(__file__).parent

PAIRS: Mapping[str, tuple[tuple[str, str], float]] = {
    "uih, A and B": (
        ("uih/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz", "uih/sub-B/dwi/sub-B_acq-PArot_dwi.nii.gz"),
        DEFAULT_OPTIONS.max_angle,
    ),
    "galan and toshiba": (
        (
            "galan/sub-01/dwi/sub-01_acq-ortho_dwi.nii.gz",
            "real/toshiba/7006_DTI_ortho.nii.gz",
        ),
        DEFAULT_OPTIONS.max_angle,
    ),
}
"""Two people of one scanner each, and how far their directions may differ, in degrees."""

KINDS: Mapping[str, tuple[Change, str]] = {
    "anisotropy lost": (Change("", fa=-0.65), "axonal-loss"),
    "with T2 and diffusivity": (Change("", t2=0.2, md=0.25, fa=-0.65), "demyelination"),
    "T2 longer": (Change("", t2=0.2), "t2=+"),
    "diffusivity lower": (Change("", md=-0.45), "restricted"),
}
"""What is changed, and the direction that is right."""

SCORES = ("latent-distance", "placed-distance", "latent-placed-distance")
DIRECTED = ("directed-distance", "latent-placed-directed-distance")

WHITE = 0.35  # FA from which tissue is taken for white matter
BALLS, RADIUS = 12, 6.0  # mm


@dataclass(frozen=True, eq=False)
class Target:
    """A person's scan and whose voxels are left out when it is mapped."""

    voxels: Voxels
    subject: str
    white: NDArray[np.bool_]
    lesion: NDArray[np.bool_]


def trusting(template: Mapping[str, Any]) -> Placer:
    """The template, which trusts any registration: of one or two people no guard can be made."""
    return replace(Placer.from_arrays(template), residuals=np.ones(1))


def targets(model: NoveltyModel, paths: list[Path], options: ScanOptions) -> Iterator[Target]:
    assert model.acquisition_ is not None
    assert model.template_ is not None
    protocol = protocol_of(model.acquisition_)
    placer = trusting(model.template_)
    for scan in open_scans(paths, options):
        voxels = read_scan(scan, protocol, options)
        located = placer.locate(voxels, protocol).located
        assert located is not None
        white = located.features[:, 2].numpy() > WHITE
        points = apply_affine(scan.grid.affine, np.argwhere(voxels.mask))
        random = np.random.default_rng(0)
        centres = points[random.choice(np.flatnonzero(white), BALLS, replace=False)]
        near = np.linalg.norm(points[:, None] - centres, axis=2).min(axis=1) < RADIUS
        subject = model.acquisition_.subject_of(voxels.digest)
        assert subject is not None
        yield Target(voxels, subject, white, near & white)


def aucs(model: NoveltyModel, target: Target) -> Iterator[list[str]]:
    """Of each kind of change: AUC of changed against other white matter, by each score."""
    acquisition = model.acquisition_
    assert acquisition is not None
    assert acquisition.gradients is not None
    assert model.template_ is not None
    placer, protocol = trusting(model.template_), protocol_of(acquisition)
    means = acquisition.channel_means

    def mapped(signals: NDArray[np.float32]) -> Callable[[Sequence[str], str | None], list[float]]:
        """Register a scan with these signals; give what maps them: scores, a change -> AUCs."""
        located = placer.locate(replace(target.voxels, values=signals), protocol).located

        def found(names: Sequence[str], toward: str | None) -> list[float]:
            how: dict[str, Any] = {"toward": toward, "leave_out": target.subject}
            novelty = model.novelties(signals / means, names, located=located, **how)
            labels = target.lesion[target.white]
            return [roc_auc_score(labels, novelty[name][target.white]) for name in names]

        return found

    healthy = target.voxels.values
    before = mapped(healthy)
    plain = before(SCORES, None)
    for kind, (change, toward) in KINDS.items():
        signals = healthy.copy()
        alteration = Alteration(change, acquisition.gradients, np.ones_like(means))
        signals[target.lesion] = alteration(healthy[target.lesion])
        after = mapped(signals)
        values = after(SCORES, None) + after(DIRECTED, toward)
        cells = [
            f"{a:.2f} ({b:.2f})"
            for a, b in zip(values, plain + before(DIRECTED, toward), strict=True)
        ]
        yield [kind, *cells]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=HERE, metavar="FOLDER")
    options = parser.parse_args()
    named = os.environ.get("QSPACE_ND_DATA")
    if not named:
        raise SystemExit("QSPACE_ND_DATA names no folder of real scans: set it.")
    rows = []
    for name, (files, angle) in PAIRS.items():
        paths = [Path(named) / file for file in files]
        reading = ScanOptions(max_angle=angle)
        with tempfile.TemporaryDirectory() as folder:
            model = fit_scans(
                paths,
                NoveltyModel(device="cpu"),
                Path(folder) / "model",
                template=True,
                options=reading,
            )
            for target in targets(model, paths, reading):
                for cells in aucs(model, target):
                    rows.append([f"{name}: {target.voxels.scan.files.subject}", *cells])
                    print(rows[-1], flush=True)
    header = ["", "changed", *SCORES, *(f"{one}, right direction" for one in DIRECTED)]
    command = shlex.join(["python", "benchmarks/implanted.py", *sys.argv[1:]])
    text = (
        "## Changed tissue in real scans\n\n"
        f"`{command}`: AUC of changed against other white matter; in brackets the same balls as "
        "they are. The reference is one other person of the scanner.\n\n" + table(header, rows)
    )
    write_section(options.output / "RESULTS.md", "implanted", text)


if __name__ == "__main__":
    main()
