"""Cohorts that several test files look at, and must not write to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.simulation.anatomy import icbm152_tissues
from qspace_nd.simulation.cohort import Cohort, simulate_cohort
from qspace_nd.simulation.head import standard_table

TABLE = standard_table(unweighted=1, directions=6)
SMALL = {"voxel_size": 8.0, "table": TABLE}


@pytest.fixture(scope="package")
def bids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """Two controls and a patient in a BIDS dataset."""
    folder = tmp_path_factory.mktemp("bids")
    return folder, simulate_cohort(folder, controls=2, patients=1, **SMALL)


@pytest.fixture(scope="package")
def flat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Cohort]:
    """The same three in plain files."""
    folder = tmp_path_factory.mktemp("flat")
    return folder, simulate_cohort(folder, controls=2, patients=1, layout="flat", **SMALL)


def files_in(folder: Path) -> set[str]:
    """Every file below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def made_up_labels(shift: Sequence[float] = (0, 0, 0)) -> tuple[np.ndarray, np.ndarray]:
    """Brain labels as DLMUSE numbers them, in voxels of 3 mm, and their affine.

    They are ICBM152's tissue, with axes PSR, narrowed by 6 % and shifted.
    """
    maps = icbm152_tissues()
    best = maps.values.argmax(axis=0)
    labels = np.array([45, 100, 1], np.uint8)[best] * (maps.values.sum(axis=0) > 0.5)
    turn = np.zeros((4, 4))
    turn[0, 2] = turn[2, 1] = turn[3, 3] = 1
    turn[1, 0] = -1
    at = turn.copy()
    turned = np.moveaxis(labels[::3, ::3, ::3][:, ::-1], (1, 2, 0), (0, 1, 2))
    at[:3, :3] *= 3 * 0.94
    at[:3, 3] = [*(maps.affine[:3, 3] + np.array([0, 3 * (turned.shape[0] - 1), 0]) + shift)]
    return np.ascontiguousarray(turned), at


def write_labels(path: Path, labels: np.ndarray, affine: np.ndarray) -> Path:
    """Write an image of labels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture(scope="package")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three made-up people, two of them in a table."""
    folder = tmp_path_factory.mktemp("labelled")
    for number in (1, 2, 3):
        write_labels(folder / f"P{number}_T1_labels.nii.gz", *made_up_labels((20 * number, 0, -9)))
    table = "participant_id\tage\tsex\nP1\t30\tF\nP2\t41.5\tM\n"
    (folder / "participants.tsv").write_text(table)
    return folder
