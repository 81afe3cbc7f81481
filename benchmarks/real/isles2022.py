"""Stroke in scans without b-values (ISLES 2022, CC BY 4.0): trace images and ADC maps.

    python benchmarks/real/isles2022.py DIR

A demonstration, and no proof: the dataset has no healthy people, and several hospitals' scanners.
What serves as the reference is the lesion-free tissue of some of the patients: all that lies more
than a few mm from what an expert drew. Others are mapped and held against their labels: ours, and
DWI and ADC themselves, over the brain and at the place. A section of RESULTS.md is written.

download and unpack (zenodo.org, record 7153326):

    unzip ISLES-2022.zip -d DIR

preprocess: nothing. The images are stripped of the skull; the brain is where both are above 0. DWI
and ADC of a patient are put into one 4-D file, each divided by its median in the brain, as their
units differ between scanners.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import _benchmarks
import numpy as np
from heads_tables import FWHM, KNOWS
from patients import Patient, Study, Values, section
from placed_peers import DIRECTED, UNDIRECTED
from results import write_section
from scipy import ndimage
from stacks import at_place

from qspace_nd import MapSettings, NoveltyModel
from qspace_nd.arrays import Bools
from qspace_nd.errors import InputError
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.nifti import read_volume, write_scan, write_volume
from qspace_nd.layouts.names import parse_entities
from qspace_nd.scores.views import Located

# What was looked up: names as sub-strokecase0001/ses-0001/dwi/
# sub-strokecase0001_ses-0001_{dwi,adc}.nii.gz, in the root (or, in some releases, in rawdata/), and
# derivatives/sub-strokecase0001/ses-0001/sub-strokecase0001_ses-0001_msk.nii.gz; DWI of b=1000; 250
# cases; the licence (Hernandez Petzsche et al., Scientific Data 9:762, 2022).
# What is assumed: that DWI, ADC and mask of a case share a grid, which is checked, and that the
# background is 0, as of images stripped of the skull.

CHANNELS = ("DWI", "ADC")
TOWARD = "DWI=+,ADC=-"
"""What acute stroke does to the two."""
OURS = (*UNDIRECTED, f"{DIRECTED[-1]}, toward {TOWARD}")
RIVALS = {
    "DWI over the brain": "sign",
    "low ADC over the brain": "sign",
    "z of DWI at the place": "place, sign",
    "z of low ADC at the place": "place, sign",
}
TOLD = {**{name: KNOWS[name] for name in UNDIRECTED}, OURS[-1]: "place, sign", **RIVALS}
"""What each method knows beside the reference."""

RIM = 6.0
"""mm around a drawn lesion that are not taken for healthy."""
MOST_BRAIN = 0.6
"""Of an image: where more is above 0, the skull was not stripped."""
GROUP = "stroke"


def cases(dataset: Path) -> list[Patient]:
    """The cases that have DWI, ADC and labels, by name; their scans are the DWI.

    Raises
    ------
    InputError
        There is none.
    """
    masks = {path.name.removesuffix("_msk.nii.gz"): path for path in dataset.rglob("*_msk.nii.gz")}
    found = []
    for path in sorted(dataset.rglob("sub-*_dwi.nii.gz")):
        name = path.name.removesuffix("_dwi.nii.gz")
        if name in masks and _adc(path).is_file():
            found.append(Patient(f"sub-{parse_entities(path)['sub']}", GROUP, path, masks[name]))
    if not found:
        raise InputError(
            f"{dataset} has no case with DWI, ADC and labels; expected sub-*/ses-*/dwi/"
            f"sub-*_{{dwi,adc}}.nii.gz and derivatives/sub-*/ses-*/sub-*_msk.nii.gz: name the "
            f"folder that ISLES-2022.zip was unpacked into."
        )
    return found


def _adc(dwi: Path) -> Path:
    return dwi.with_name(dwi.name.replace("_dwi.nii", "_adc.nii"))


def stack(case: Patient, folder: Path, *, healthy: bool) -> Path:
    """Write the two channels of a case as one file, and its mask, without lesions if healthy.

    Raises
    ------
    InputError
        The images do not share a grid, or the skull is still there.
    """
    path = folder / case.name / "ses-0001" / "dwi" / case.scan.name
    if path.exists():
        return path
    dwi, grid = read_volume(case.scan)
    adc, found = read_volume(_adc(case.scan))
    require_same_grid(_adc(case.scan), found, grid)
    brain = (dwi > 0) & (adc > 0)
    if not 0 < brain.mean() < MOST_BRAIN:
        raise InputError(
            f"{case.scan} and its ADC are above 0 in {brain.mean():.0%} of the image; expected "
            f"images stripped of the skull, as ISLES 2022 has them."
        )
    mask = brain & ~_near_lesion(case.labels, grid) if healthy else brain
    channels = [np.where(brain, one / np.median(one[brain]), 0) for one in (dwi, adc)]
    path.parent.mkdir(parents=True, exist_ok=True)
    start = path.name.removesuffix("_dwi.nii.gz")
    write_volume(path.with_name(f"{start}_desc-brain_mask.nii.gz"), mask, grid)
    write_scan(path, np.stack(channels, axis=-1).astype(np.float32), grid)
    return path


def _near_lesion(labels: Path, grid: Grid) -> Bools:
    """Where a voxel lies within `RIM` of what was drawn."""
    values, found = read_volume(labels)
    require_same_grid(labels, found, grid)
    if not (values > 0).any():
        return np.zeros(values.shape, np.bool_)
    away = ndimage.distance_transform_edt(values <= 0, sampling=grid.voxel_sizes)
    return np.asarray(away <= RIM)


def channel_rivals(model: NoveltyModel) -> Callable[[Located], Mapping[str, Values]]:
    """The logarithms of DWI and of ADC, the latter's sign turned; and their z at the place."""

    def score(located: Located) -> Mapping[str, Values]:
        dwi, adc = located.features.numpy().T
        z = [at_place(model, located, channel) for channel in range(len(CHANNELS))]
        return dict(zip(RIVALS, (dwi, -adc, z[0], -z[1]), strict=True))

    return score


def markdown(study: Study, patients: Sequence[Patient], healthy: int, command: str) -> str:
    """The section of RESULTS.md."""
    results = study.results(patients)
    left_out = [f"- {name}: {why}" for name, why in study.left_out.items()]
    parts = [
        "## Stroke without b-values, ISLES 2022 (real scans): a demonstration",
        f"`{command}`: two channels, DWI and ADC. There are no healthy people in the dataset: the "
        f"reference is the tissue of {healthy} patients that lies more than {RIM:g} mm from their "
        "drawn lesions, so that labels of others are known to all methods, and what an expert left "
        "out counts as healthy. Scanners differ. Means over patients with their 95 % interval; "
        "lesions found at so many false clusters a scan; the best Dice, which nobody knows without "
        "labels. All that know the place know it by one registration, on ADC.",
        section(results, TOLD, OURS) if results else "Nobody could be evaluated.",
    ]
    if left_out:
        parts.append("\n".join(["Left out:", "", *left_out]))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DIR", help="the unpacked dataset")
    parser.add_argument(
        "--reference", type=int, default=30, metavar="N", help="patients whose tissue is healthy"
    )
    parser.add_argument(
        "--patients", type=int, default=50, metavar="N", help="that are mapped, of the others"
    )
    _benchmarks.add_options(parser)
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/real/isles2022.py", *_benchmarks.told(arguments)])
    folder = options.cache / "isles2022"
    try:
        found = cases(options.dataset)
        if len(found) <= options.reference:
            raise InputError(
                f"{options.dataset} has {len(found)} cases, of which {options.reference} are the "
                f"reference; ask for fewer with --reference."
            )
        # Every so many-th is the reference: the cases are in the order of hospitals, it may be.
        at = np.linspace(0, len(found) - 1, options.reference).round().astype(int)
        reference = [found[i] for i in at]
        others = [one for one in found if one not in reference][: options.patients]
        settings = MapSettings((*UNDIRECTED, DIRECTED[-1]), smooth=FWHM, toward=TOWARD)
        study = Study(folder, settings, channel_rivals)
        scans = [stack(one, folder / "reference", healthy=True) for one in reference]
        study.fit(scans, quick=options.quick, channels=CHANNELS, register_on="ADC")
        patients = [
            Patient(one.name, GROUP, stack(one, folder / "patients", healthy=False), one.labels)
            for one in others
        ]
        text = markdown(study, patients, len(reference), command)
    except InputError as error:
        parser.error(str(error))
    print(text)
    write_section(_benchmarks.results(options), "isles2022", text)


if __name__ == "__main__":
    main()
