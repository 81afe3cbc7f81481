from __future__ import annotations

import shutil
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import InputError, ModelError
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.workflows.check import CheckedScan, check_scans

SCANS = ["healthy/control-01.nii.gz", "healthy/control-02.nii.gz", "patient.nii.gz"]


def put_nan(path: Path) -> None:
    image = nib.load(path)
    data = np.asarray(image.dataobj).astype(np.float32)
    data[8, 10, 8, 3] = np.nan
    nib.save(nib.Nifti1Image(data, image.affine), path)


def test_a_report_says_whose_scan_it_is_and_what_it_holds(prepared: Path) -> None:
    with chdir(prepared):
        (report,) = check_scans(["patient.nii.gz"], Path("qspace-nd-model"))
    assert (report.problem, report.warnings) == (None, ())
    subject, channels, voxels = report.lines()
    assert subject.startswith("Subject patient; ")
    assert "8 x 8 x 8 mm, axes LAS" in subject
    assert channels == "14 channels: 2 at b=0, 12 at b=1200"
    assert voxels.endswith("voxels with signal in the mask patient_mask.nii.gz")


def test_every_scan_is_reported_although_one_is_bad(folder: Path) -> None:
    (folder / SCANS[0]).write_bytes(b"no scan")
    put_nan(folder / SCANS[1])
    with chdir(folder):
        bad, nan, good = check_scans(SCANS)
    assert bad.problem is not None
    assert bad.facts == ()
    assert nan.problem is not None
    assert "1 NaN or infinite values" in nan.problem
    assert nan.lines()[-1].startswith("Problem: healthy/control-02.nii.gz has 1 NaN")
    assert good.problem is None


def test_what_is_left_out_on_demand_is_a_warning(folder: Path) -> None:
    put_nan(folder / SCANS[1])
    with chdir(folder):
        (report,) = check_scans([SCANS[1]], options=ScanOptions(ignore_nonfinite=True))
    assert report.problem is None
    assert any("Warning: " in line and "are left out" in line for line in report.lines())


def test_scans_are_held_against_those_that_can_be_used(folder: Path) -> None:
    (folder / SCANS[0]).write_bytes(b"no scan")
    bvals = np.loadtxt(folder / "patient.bval")
    np.savetxt(folder / "patient.bval", bvals[None] * 2, fmt="%g")
    with chdir(folder):
        _, second, patient = check_scans(SCANS)
    assert second.problem is None
    assert patient.problem is not None
    assert "other b-values" in patient.problem


def test_a_mask_that_was_computed_is_told(folder: Path) -> None:
    (folder / "patient_mask.nii.gz").unlink()
    with chdir(folder):
        (report,) = check_scans(["patient.nii.gz"])
    assert "a mask computed on the b=0 volumes" in report.facts[-1]
    assert any("has no brain mask beside it" in warning for warning in report.warnings)
    assert not (folder / "patient_mask.nii.gz").exists()


def test_no_scan_and_no_model_are_errors(folder: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        check_scans([folder / "absent.nii.gz"])
    shutil.rmtree(folder / "qspace-nd-model")
    with pytest.raises(ModelError, match="There is no model in"):
        check_scans([folder / "patient.nii.gz"], folder / "qspace-nd-model")


def test_a_report_without_a_problem_has_no_line_of_one() -> None:
    assert CheckedScan(Path("x"), facts=("a",), warnings=("b",)).lines() == ["a", "Warning: b"]
