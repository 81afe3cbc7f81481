"""`qspace-nd eval`."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from tests.conftest import Run


def test_a_quiet_eval_prints_its_table_alone(folder: Path, call: Run) -> None:
    outcome = call("eval --labels lesions.nii.gz -q", folder)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert "latent-distance" in outcome.stdout


def test_labels_of_finer_voxels_are_refused_or_resampled_by_the_option(
    folder: Path, call: Run
) -> None:
    image = nib.load(folder / "lesions.nii.gz")
    values = np.kron(np.asarray(image.dataobj), np.ones((2, 2, 2), "u1"))
    half = np.diag([0.5, 0.5, 0.5, 1.0])
    half[:3, 3] = -0.25
    nib.save(nib.Nifti1Image(values.astype("u1"), image.affine @ half), folder / "fine.nii.gz")
    refused = call("eval --labels fine.nii.gz", folder)
    assert refused.status == 2
    assert "give --resample-labels" in " ".join(refused.stderr.split())
    taken = call("eval --labels fine.nii.gz --resample-labels", folder)
    assert taken.status == 0
    assert "fine.nii.gz was resampled onto the grid of the map" in " ".join(taken.stderr.split())
    assert taken.stdout == call("eval --labels lesions.nii.gz -o same", folder).stdout
