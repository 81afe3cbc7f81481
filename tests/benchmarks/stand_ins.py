"""Simulated scans in the layouts of public datasets, with their names and tables."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine
from scipy import ndimage

from qspace_nd.diffusion.fsl import write_gradients
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import write_scan, write_volume
from qspace_nd.simulation.cohort import Simulation
from qspace_nd.simulation.head import Subject, standard_table
from tests.benchmarks.conftest import BENCHMARKS

TABLE = standard_table(unweighted=1, directions=12)
SIMULATION = Simulation(voxel_size=8.0, table=TABLE, mass_effect=4.0, seed=3)


def write_dwi(path: Path, subject: Subject, mask: Path | None) -> Path:
    """Write a scan with its b-values and b-vectors, and perhaps its brain mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = Grid(subject.mask.shape, subject.affine)
    write_scan(path, np.rint(subject.signal).astype(np.int16), grid)
    start = str(path).removesuffix(".nii.gz")
    write_gradients(Path(f"{start}.bval"), Path(f"{start}.bvec"), TABLE, subject.affine)
    if mask is not None:
        write_volume(mask, subject.mask, grid)
    return path


def write_labels(path: Path, subject: Subject) -> Path:
    """Write lesions as drawn on an anatomical image: finer, tilted, of values from 0 to 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tilt = np.eye(4)
    tilt[:3, :3] = 4.0 * np.linalg.qr(np.array([[1, 0.1, 0.05], [-0.1, 1, 0], [0, 0.05, 1]]))[0]
    tilt[:3, :3] *= np.sign(np.diag(tilt))[:3]
    shape = (48, 56, 48)
    middle = apply_affine(subject.affine, (np.array(subject.mask.shape) - 1) / 2)
    tilt[:3, 3] = middle - tilt[:3, :3] @ ((np.array(shape) - 1) / 2)
    to_voxels = np.linalg.inv(subject.affine) @ tilt
    drawn = ndimage.affine_transform(
        subject.labels.astype(np.float32), to_voxels[:3, :3], to_voxels[:3, 3], shape, order=1
    )
    nib.save(nib.Nifti1Image(drawn, tilt), path)
    return path


def help_of(recipe: str, folder: Path) -> str:
    """What a recipe says of itself, run as a script from another folder."""
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / "real" / recipe), "--help"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
