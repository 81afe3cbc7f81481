"""Measure what place and direction are worth for stacks: scans without b-values.

    QSPACE_ND_DATA=... python benchmarks/stacks.py --stage development
    QSPACE_ND_DATA=... python benchmarks/stacks.py --stage final
    QSPACE_ND_DATA=... python benchmarks/stacks.py --patient

A stage is of simulated FLAIR, T1w and T2w on real people's heads, registered on T1w. The patient is
real, and has nobody to be compared with: each side of the head is, with the other.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy

import nibabel as nib
import numpy as np
import torch
from cohorts import PEOPLE, anatomies, real_lesion_masks
from contrasts import CONTRASTS, contrasts
from nibabel.affines import apply_affine
from numpy.typing import NDArray
from results import table, write_section
from sklearn.metrics import average_precision_score, roc_auc_score

from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, open_scans, protocol_of, read_scan
from qspace_nd.imaging.stack import Stack
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.rows import Healthy
from qspace_nd.scores.norms import NEAR, Lattice
from qspace_nd.scores.views import Located
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.head import Subject, standard_table
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.placing import Placer

HERE = Path(__file__).parent
SEEDS = {"development": 701, "final": 9071}
CONTROLS, PATIENTS = 8, 6

PLAIN = {
    "input-distance": "nothing",
    "latent-distance": "nothing",
    "placed-distance": "place",
    "latent-placed-distance": "place",
}
DIRECTED = ("directed-distance", "latent-directed-distance", "latent-placed-directed-distance")
FIGURES = ("AUC, brain", "AP, brain", "AUC, white matter", "AP, white matter")
HEADER = ("", "knows", *FIGURES)

Values = NDArray[np.float32]
Marks = NDArray[np.bool_]
Found = dict[tuple[str, str], list[float]]
"""The figures of each method, by its name and what it knows."""


@dataclass(frozen=True, eq=False)
class Brain:
    """Voxels to be scored: channel-normalised signals, FLAIR alone, places, what is lesion.

    Attributes
    ----------
    x : (n, C) array
    flair : (n,) array
    located : Located (n)
    labels, white : (n,) bool array
    """

    x: Values
    flair: Values
    located: Located
    labels: Marks
    white: Marks


def figures(scores: Values, brain: Brain) -> list[float]:
    """AUC and average precision in the brain and in white matter, which lesions count as."""
    found = []
    for inside in (np.ones_like(brain.labels), brain.white | brain.labels):
        labels, some = brain.labels[inside], scores[inside]
        found += [roc_auc_score(labels, some), average_precision_score(labels, some)]
    return found


def measure(
    model: NoveltyModel, brain: Brain, flair: int, directions: Sequence[tuple[str, str]]
) -> Found:
    """Score a brain by ours, and by FLAIR, which is the channel of this index."""
    found = {}
    plain = model.novelties(brain.x, list(PLAIN), located=brain.located)
    for name, knows in PLAIN.items():
        found[name, knows] = figures(plain[name], brain)
    for toward, knows in directions:
        scores = model.novelties(brain.x, DIRECTED, located=brain.located, toward=toward)
        for name in DIRECTED:
            found[f"{name}, toward {toward}", knows] = figures(scores[name], brain)
    found["FLAIR, z over the brain", "sign"] = figures(brain.flair, brain)
    z = at_place(model, brain.located, flair)
    found["z of FLAIR at the place", "place, sign"] = figures(z, brain)
    own = list(model.deviations(brain.x, brain.located).values.values())[flair]
    found["the same, own background off (`map --explain`)", "place, sign"] = figures(own, brain)
    return found


def at_place(model: NoveltyModel, located: Located, channel: int) -> Values:
    """z of a channel's logarithm by the healthy voxels around the place, as for the z-maps."""
    healthy = [part.views.located for part in model.reference_.parts]
    points = [one.points.numpy() for one in healthy]
    values = [one.features.numpy()[:, [channel]].astype(np.float64) for one in healthy]
    moments = [np.concatenate([value, value**2], axis=1) for value in values]
    lattice = Lattice.around(points)
    near = lattice.mean_near(zip(points, moments, strict=True), NEAR)
    mean, square = lattice.field(near).at(located.points.numpy()).astype(np.float64).T
    spread = np.sqrt(np.maximum(square - mean**2, 1e-4))
    return np.asarray((located.features.numpy()[:, channel] - mean) / spread)


# --- simulated --------------------------------------------------------------------------------

SIMULATED = (
    ("FLAIR=+", "place, sign"),
    ("FLAIR=+,T1w=-,T2w=+", "place, sign of all"),
    ("FLAIR=-", "place, wrong sign"),
)


def write(path: Path, subject: Subject, seed: int) -> Path:
    """Write a subject's stack and its mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(contrasts(subject, seed), subject.affine), path)
    mask = nib.Nifti1Image(subject.mask.astype(np.uint8), subject.affine)
    nib.save(mask, path.with_name(path.name.replace(".nii", "_mask.nii")))
    return path


def simulated(stage: str, cache: Path, quick: bool) -> Iterator[Found]:
    """The figures of each patient of a stage."""
    seed = SEEDS[stage]
    folder = cache / f"stacks-{stage}{'-quick' if quick else ''}"
    simulation = Simulation(
        voxel_size=8.0 if quick else 3.0,
        table=standard_table(unweighted=1, directions=6),
        lesion_masks=() if quick else real_lesion_masks(),
        seed=seed,
        anatomies=() if quick else anatomies(stage),
    )
    if not (folder / "model").exists():
        scans = [
            write(folder / f"control-{i}.nii.gz", simulation.control(i), seed + i)
            for i in range(2 if quick else CONTROLS)
        ]
        fit_scans(
            scans,
            NoveltyModel(device="cpu", epochs=1 if quick else None),
            folder / "model",
            channels=list(CONTRASTS),
            register_on="T1w",
        )
    model = NoveltyModel.load(folder / "model", "cpu")
    for i in range(1 if quick else PATIENTS):
        subject = simulation.patient(i)
        path = write(folder / f"patient-{i}.nii.gz", subject, seed + 100 + i)
        brain = registered(model, path, subject)
        yield measure(model, brain, list(CONTRASTS).index("FLAIR"), SIMULATED)


def registered(model: NoveltyModel, path: Path, subject: Subject) -> Brain:
    """Read and register a stack as `map` does."""
    assert model.acquisition_ is not None
    assert model.template_ is not None
    protocol = protocol_of(model.acquisition_)
    (scan,) = open_scans([path], DEFAULT_OPTIONS)
    voxels = read_scan(scan, protocol)
    placement = Placer.from_arrays(model.template_).locate(voxels, protocol)
    print(f"{path.name}: {placement.wrong or 'registered'}", flush=True)
    assert placement.located is not None, "the guard trusts none of its own kind"
    flair = voxels.values[:, list(CONTRASTS).index("FLAIR")].copy()
    x = voxels.values / model.acquisition_.channel_means
    return Brain(
        x, flair, placement.located, subject.labels[voxels.mask], subject.white_matter[voxels.mask]
    )


# --- a real patient ---------------------------------------------------------------------------

CHANNELS = ("FLAIR", "T1w", "T1c", "T2w")
REAL = (
    ("FLAIR=+", "place, sign"),
    ("FLAIR=+,T2w=+", "place, two signs"),
    ("FLAIR=-", "place, wrong sign"),
)


def sides(data: Path) -> Iterator[Found]:
    """Each side of a patient's head against the unlabelled tissue of the other one, mirrored.

    The scan lies in MNI space, so that a place is its millimetres there, left for right.
    """
    image = nib.load(data / "ms/patient07_multicontrast.nii.gz")
    mask = read_volume(data / "ms/patient07_desc-brain_mask.nii.gz")[0] > 0
    labels = read_volume(data / "ms/patient07_desc-lesion_mask.nii.gz")[0][mask] > 0
    signals = image.get_fdata(dtype=np.float32)[mask]
    signals /= signals.mean()
    points = apply_affine(image.affine, np.argwhere(mask)).astype(np.float32)
    white = _white_matter(points)
    stack = Stack.of(len(CHANNELS)).called(CHANNELS).registered_on("T1w")
    features = stack.features(signals, "The patient")
    for side in (-1, 1):
        here = points[:, 0] * side > 0
        healthy = ~here & ~labels
        means = signals[healthy].mean(axis=0)
        mirrored = points[healthy] * np.array([-1, 1, 1], np.float32)
        other = Healthy("other side", signals[healthy] / means, mirrored, features[healthy])
        model = NoveltyModel(device="cpu").fit_parts(
            [other],
            acquisition=Acquisition(means, None, (), stack=stack),
            template={"MNI": np.zeros(1, np.float32)},
        )
        where = Located(torch.from_numpy(points[here]), torch.from_numpy(features[here]))
        x, flair = signals[here] / means, signals[here, 0]
        yield measure(model, Brain(x, flair, where, labels[here], white[here]), 0, REAL)


def _white_matter(points: Values) -> Marks:
    """Where ICBM152 is white matter by half or more: (n,)."""
    from qspace_nd.simulation.anatomy import icbm152_tissues

    return np.asarray(icbm152_tissues().at(points)[:, 0] >= 0.5)


# --- tables -----------------------------------------------------------------------------------


def rows(found: Sequence[Found]) -> Iterator[list[str]]:
    """The mean of each figure, and in brackets its least and its largest."""
    for name, knows in found[0]:
        cells = np.array([one[name, knows] for one in found])
        yield [name, knows, *(f"{c.mean():.3f} [{c.min():.3f}, {c.max():.3f}]" for c in cells.T)]


def markdown(title: str, about: str, command: str, found: Sequence[Found]) -> str:
    return f"## {title}\n\n`{command}`: {about}\n\n{table(HEADER, rows(found))}"


ABOUT: Mapping[str, str] = {
    "simulated": (
        "FLAIR, T1w and T2w are simulated on real people's heads, {controls} controls to learn "
        "from and {patients} patients with the shapes of real lesions, by `fit --channels "
        "FLAIR,T1w,T2w --register-on T1w`. The mean over the patients, the least and the largest."
    ),
    "patient": (
        "one real patient with 154 lesion voxels of 2 mm, and nobody else of the same scanner: "
        "each side of the head is scored by the unlabelled tissue of the other, at the mirrored "
        "place. A demonstration and no proof: the labels of the other side are known, a side is no "
        "healthy person, and a template cannot be made of one person, so that places are those of "
        "the published registration to MNI space. The mean of the two sides, and each."
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--stage", choices=PEOPLE)
    what.add_argument("--patient", action="store_true", help="the real one")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="a stage, tiny, to see that it runs")
    parser.add_argument("-o", "--output", type=Path, metavar="FOLDER", help="default: here")
    options = parser.parse_args()
    torch.set_num_threads(1)
    command = shlex.join(["python", "benchmarks/stacks.py", *sys.argv[1:]])
    if options.patient:
        named = os.environ.get("QSPACE_ND_DATA")
        if not named:
            raise SystemExit("QSPACE_ND_DATA names no folder of real scans: set it.")
        name, title, about = "patient", "Stacks: a real patient", ABOUT["patient"]
        found = list(sides(Path(named)))
    else:
        name, title = options.stage, f"Stacks: simulated, {options.stage} people"
        about = ABOUT["simulated"].format(controls=CONTROLS, patients=PATIENTS)
        found = list(simulated(options.stage, options.cache, options.quick))
    text = markdown(title, about, command, found)
    print(text)
    output = options.output or (options.cache if options.quick else HERE)
    write_section(output / "RESULTS.md", f"stacks-{name}", text)


if __name__ == "__main__":
    main()
