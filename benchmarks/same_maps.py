"""Prove that two checkouts of the package make the same maps, to the last bit.

    QSPACE_ND_DATA=... python benchmarks/same_maps.py BEFORE AFTER

Each is the folder of a checkout, or a revision of git. Both learn from one person's scan in `uih/`
and map the other's, and learn from a simulated cohort and map its patient. A line for each image.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import nibabel as nib
import numpy as np

# Without what an editable installation would lend where a checkout lacks it.
PROGRAM = """import sys
sys.meta_path = [one for one in sys.meta_path if "editable" not in repr(one).lower()]
from qspace_nd.cli import main; main()"""
COHORT = "simulate {cohort} --layout flat --voxel-size 4 --controls 3 --patients 1"
FIT = "fit --epochs 3 --nthreads 2 "
MAP = "map -o maps --nthreads 2 --smooth 6 --score latent-distance --score input-distance"
SAMPLED = " --score recon-error-qhat --score neg-elbo "
ALL_PAIRS = "--score latent-bhattacharyya --score latent-density --score output-density "
DEAR = "map -o few --nthreads 2 --score generated-error --mask {cohort}/lesions.nii.gz "
LINES = (
    ("real", FIT + "{real}/sub-A/dwi/sub-A_acq-PArot_dwi.nii.gz"),
    ("real", MAP + SAMPLED + "{real}/sub-B/dwi/sub-B_acq-PArot_dwi.nii.gz"),
    ("simulated", FIT + "{cohort}/healthy"),
    ("simulated", MAP + SAMPLED + ALL_PAIRS + "{cohort}/patient.nii.gz"),
    ("simulated", DEAR + "{cohort}/patient.nii.gz"),
)


def checkout(named: str, place: Path) -> Path:
    """The folder of a checkout; the files of a revision are put at `place`."""
    if Path(named, "qspace_nd").is_dir():
        return Path(named).resolve()
    packed = place.with_suffix(".tar")
    here = Path(__file__).parents[1]
    subprocess.run(["git", "-C", here, "archive", "-o", packed, named], check=True)
    shutil.unpack_archive(packed, place, filter="data")
    return place


def call(source: Path, line: str, folder: Path) -> None:
    """Run the command line of a checkout in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-c", PROGRAM, *line.split(), "--quiet"]
    subprocess.run(words, cwd=folder, env={**os.environ, "PYTHONPATH": str(source)}, check=True)


def difference(one: Path, other: Path) -> str:
    """Say how two images differ; nothing where all their bits are the same."""
    if not (one.exists() and other.exists()):
        return "is made by one alone"
    images = nib.load(one), nib.load(other)
    a, b = (np.asanyarray(image.dataobj) for image in images)
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{a.dtype} {a.shape} and {b.dtype} {b.shape}"
    if a.tobytes() != b.tobytes():
        return f"largest difference {np.nanmax(np.abs(a.astype(np.float64) - b)):.3g}"
    codes = ("qform_code", "sform_code", "xyzt_units")
    here, there = ([i.affine.tobytes(), *(int(i.header[c]) for c in codes)] for i in images)
    return "" if here == there else "another affine or header code"


def compare(before: Path, after: Path, work: Path) -> dict[Path, str]:
    """Say of each image that the checkouts make how the two differ."""
    given = {"cohort": work / "cohort", "real": Path(os.environ["QSPACE_ND_DATA"], "uih").resolve()}
    call(before, COHORT.format(**given), work)
    made = work / "before", work / "after"
    for source, folder in zip((before, after), made, strict=True):
        for name, line in LINES:
            call(source, line.format(**given), folder / name)
    images = {path.relative_to(root) for root in made for path in root.rglob("*.nii.gz")}
    return {image: difference(made[0] / image, made[1] / image) for image in sorted(images)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkouts", nargs=2, metavar="CHECKOUT", help="a folder or a revision")
    with TemporaryDirectory() as folder:
        work = Path(folder)
        before, after = parser.parse_args().checkouts
        found = compare(checkout(before, work / "one"), checkout(after, work / "other"), work)
    for image, text in found.items():
        print(f"{image}: {f'different ({text})' if text else 'same'}")
    print(f"{len(found)} images, {sum(map(bool, found.values()))} of them different")
    raise SystemExit(1 if any(found.values()) or not found else 0)


if __name__ == "__main__":
    main()
