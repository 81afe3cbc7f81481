"""Small scans as users bring them: 12 x 12 x 8 voxels of a ball, 2 b=0 volumes, 12 directions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from qspace_nd.arrays import Bools

_SHAPE, _AFFINE = (12, 12, 8), np.diag([-8.0, 8.0, 8.0, 1.0])
PEOPLE = {"001": "control", "002": "control", "003": "control", "004": "patient"}


def save(path: Path, values: np.ndarray) -> Path:  # type: ignore[type-arg]
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(values, _AFFINE)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
    return path


def ball(radius: float = 0.9) -> Bools:
    """A mask (X, Y, Z); its size tells it from others."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in _SHAPE), indexing="ij")
    return np.linalg.norm(axes, axis=0) < radius


def save_mask(path: Path, radius: float = 0.9) -> int:
    """Write a mask; give the number of its voxels."""
    mask = ball(radius)
    save(path, mask.astype(np.uint8))
    return int(mask.sum())


def save_scan(path: Path, seed: int = 0, ends: Sequence[str] = (".bval", ".bvec")) -> Path:
    """Write a scan and its gradients, called as the scan, or by full names in `ends`."""
    bvals = np.repeat([0.0, 1000.0], [2, 12])
    height = 1 - (np.arange(12) + 0.5) / 12  # a spiral on the half sphere
    turn = np.pi * (1 + 5**0.5) * np.arange(12)
    around = np.sqrt(1 - height**2)
    weighted = np.stack([around * np.cos(turn), around * np.sin(turn), height], axis=1)
    vectors = np.concatenate([np.zeros((2, 3)), weighted])
    signal = 800 * np.exp(-bvals * (0.4e-3 + 1e-3 * vectors[:, 0] ** 2)) * ball(0.95)[..., None]
    noise = np.random.default_rng(seed).normal(0, 20, (2, *signal.shape))
    save(path, np.hypot(signal + noise[0], noise[1]).round().astype(np.int16))
    stem = path.name.lower().removesuffix(".nii.gz")
    names = [path.name[: len(stem)] + end if end[0] == "." else end for end in ends]
    np.savetxt(path.with_name(names[0]), bvals[None], fmt="%g")
    np.savetxt(path.with_name(names[1]), vectors.T, fmt="%.6f")
    return path


def save_dataset(folder: Path, table: str | None = None) -> Path:
    """Write a BIDS dataset of `PEOPLE`, with their groups, or another table of participants."""
    for seed, label in enumerate(PEOPLE):
        stem = folder / f"sub-{label}/dwi/sub-{label}"
        save_scan(stem.with_name(f"{stem.name}_dwi.nii.gz"), seed)
        save_mask(stem.with_name(f"{stem.name}_desc-brain_mask.nii.gz"))
    facts = {"Name": "x", "BIDSVersion": "1.10.0"}
    (folder / "dataset_description.json").write_text(json.dumps(facts))
    rows = "".join(f"sub-{label}\t{group}\n" for label, group in PEOPLE.items())
    told = f"participant_id\tgroup\n{rows}" if table is None else table
    (folder / "participants.tsv").write_text(told)
    return folder
