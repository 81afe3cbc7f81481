from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from nibabel.affines import apply_affine

from qspace_nd.errors import InputError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.layouts.maps import MapFiles
from qspace_nd.registration.images import Images
from tests.benchmarks.stand_ins import SIMULATION, help_of, write_dwi

PREQUAL = "derivatives/prequal-v1.0.0"
ACQ = "b2000n96r25x25x25peAPP"


def name(person: str, session: str, acq: str = ACQ, run: int = 107) -> str:
    start = f"sub-{person}/ses-{session}/dwi/sub-{person}_ses-{session}"
    return f"{PREQUAL}/{start}_acq-{acq}_run-{run}"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four people of cohort II: twice on scanner A of site 1, once at site 3; one of cohort I."""
    folder = tmp_path_factory.mktemp("ds003416")
    random = np.random.default_rng(0)
    for person in range(4):
        subject = SIMULATION.control(person)
        for session in ("s1Ax1", "s1Ax2", "s3x1"):
            start = folder / name(f"cIIs0{person}", session)
            affine = subject.affine.copy()
            affine[:3, 3] += random.uniform(-30, 30, 3) if session != "s1Ax1" else 0
            gain = 0.8 if session == "s3x1" else 1.0
            noise = random.normal(scale=2, size=subject.signal.shape)
            signal = np.maximum(gain * subject.signal + noise, 0).astype(np.float32)
            moved = replace(subject, affine=affine, signal=signal)
            mask = start.with_name(f"{start.name}_mask.nii.gz")
            write_dwi(start.with_name(f"{start.name}_dwi.nii.gz"), moved, mask)
    other = folder / name("cIs1", "s1Bx1", "b1000n96r25x25x25peAPP", 101)
    write_dwi(other.with_name(f"{other.name}_dwi.nii.gz"), subject, None)
    return folder


def test_names_say_whose_and_on_which_scanner(dataset: Path) -> None:
    from ds003416 import SAME_SCANNER, SCANNERS, chosen, runs

    found = runs(dataset, "")
    assert len(found) == 13
    assert len(runs(dataset, "cI")) == 1
    with pytest.raises(InputError, match=r"no scan of cohort cIII, .*--help"):
        runs(dataset, "cIII")
    some = chosen(found, None)
    assert {one.acquisition for one in some} == {"b2000n96"}
    assert [one.scanner for one in some[:3]] == ["1A", "1A", "3"]
    assert some[0].level(some[1]) == SAME_SCANNER
    assert some[1].level(some[2]) == SCANNERS
    with pytest.raises(InputError, match="Nobody has two scans of the acquisition b1000n96; name"):
        chosen(found, "b1000n96")


def test_a_map_is_like_itself_where_the_motion_between_two_is_known(tmp_path: Path) -> None:
    from retest import alike

    grid = Grid((12, 12, 12), np.diag([3.0, 3.0, 3.0, 1.0]))
    values = np.random.default_rng(1).normal(size=grid.shape).astype(np.float32)
    mask = np.zeros(grid.shape, bool)
    mask[2:-2, 2:-2, 2:-2] = True
    shift = np.eye(4)
    shift[:3, 3] = [6.0, -9.0, 3.0]
    files = []
    for number, where in enumerate((grid, replace(grid, affine=shift @ grid.affine))):
        paths = tmp_path / f"{number}.nii.gz", tmp_path / f"{number}_mask.nii.gz"
        write_volume(paths[0], values, where)
        write_volume(paths[1], mask, where)
        files.append(MapFiles({"latent-distance": paths[0]}, paths[1]))
    assert alike(*files, shift) == pytest.approx((1, 1, 1))
    assert alike(*files)[0] < 0.5


def by_middles(images: Images, target: Images) -> np.ndarray:
    """The motion from one brain's middle to the other's: heads are moved and not turned here."""
    motion = np.eye(4)
    ends = [
        apply_affine(one.affine, np.argwhere(one.mask)).mean(axis=0) for one in (images, target)
    ]
    motion[:3, 3] = ends[1] - ends[0]
    return motion


def test_the_section_tells_sessions_and_scanners_apart(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None
) -> None:
    import ds003416

    monkeypatch.setattr(ds003416, "align", by_middles)  # which has tests of its own
    ds003416.main([str(dataset), "--quick", "--cache", str(tmp_path)])
    text = (tmp_path / "RESULTS.md").read_text()
    assert "acquisition b2000n96" in text
    assert "scanner 1A" in text
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")
        for line in text.splitlines()
        if line.startswith("| ")
    }
    assert rows["two sessions, one scanner"][1:3] == ["4", "4"]
    assert rows["two scanners"][1:3] == ["4", "8"]
    assert rows["two people, one scanner"][1:3] == ["2", "2"]
    same, people = (
        float(rows[level][3].split()[0])
        for level in ("two sessions, one scanner", "two people, one scanner")
    )
    assert same > people
    assert "one session" not in rows


def test_too_few_people_are_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import ds003416

    with pytest.raises(SystemExit) as stopped:
        ds003416.main([str(dataset), "--cohort", "cIV", "--cache", str(tmp_path)])
    assert stopped.value.code == 2
    assert "no scan of cohort cIV" in " ".join(capsys.readouterr().err.split())


def test_the_help_says_how_to_get_the_derivatives(tmp_path: Path) -> None:
    told = help_of("ds003416.py", tmp_path)
    for wanted in ("aws s3 sync", "openneuro download", "datalad get", "PreQual", "--acq"):
        assert wanted in told
