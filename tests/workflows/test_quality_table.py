from __future__ import annotations

from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.errors import OutputError
from qspace_nd.imaging.figures import Figures
from qspace_nd.simulation.head import standard_table
from qspace_nd.workflows.check import check_scans
from qspace_nd.workflows.checked_scan import CheckedScan
from qspace_nd.workflows.quality_table import (
    COLUMNS,
    COMPARED,
    mark_far,
    protocol_sentence,
    require_table,
    to_tsv,
)
from tests.conftest import Run, tiny_cohort, tree_of

USUAL = Figures(1000.0, 500.0, 30.0, 35.0, 2.0, ())


def cohort(levels: list[float]) -> list[CheckedScan]:
    return [
        CheckedScan(Path(f"s{at}.nii.gz"), f"s{at}", figures=replace(USUAL, level=level))
        for at, level in enumerate(levels)
    ]


def rescale(path: Path, factor: float) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(factor * image.get_fdata(dtype=np.float32), image.affine), path)


@pytest.fixture
def six(tmp_path: Path) -> Path:
    """Five controls and a patient, of whom nothing is noted."""
    tiny_cohort(tmp_path, controls=5, layout="flat")
    return tmp_path


def table_of(path: Path) -> list[dict[str, str]]:
    header, *lines = (line.split("\t") for line in path.read_text().splitlines())
    return [dict(zip(header, line, strict=True)) for line in lines]


# --- What is far


def test_a_far_figure_is_marked_and_told_with_the_median() -> None:
    *others, far = mark_far(cohort([500, 505, 495, 502, 498, 580]))
    assert not any(one.far or one.warnings for one in others)
    assert far.far == {"level"}
    assert far.warnings == (
        "s5.nii.gz is far from the other scans: it has a level of 580, where the median is 501; "
        "look at it and at its mask before you use it.",
    )


@pytest.mark.parametrize("name", COMPARED)
def test_every_figure_is_compared(name: str) -> None:
    odd = replace(USUAL, **{name: 3 * getattr(USUAL, name)})
    checked = [CheckedScan(Path("s.nii.gz"), figures=one) for one in (*[USUAL] * 4, odd)]
    assert [one.far for one in mark_far(checked)] == [frozenset()] * 4 + [{name}]


def test_what_is_close_to_the_median_does_no_harm_however_alike_the_others_are() -> None:
    assert not any(one.far for one in mark_far(cohort([500.0] * 5 + [520.0])))


def test_of_few_scans_nothing_is_told() -> None:
    assert not any(one.far for one in mark_far(cohort([500, 500, 500, 5])))
    unread = CheckedScan(Path("bad.nii.gz"), problem="It is bad.")
    assert not any(one.far for one in mark_far([*cohort([500, 500, 500, 5]), unread]))


def test_figures_that_are_not_known_are_left_out() -> None:
    checked = cohort([500.0] * 5)
    without = replace(checked[0], figures=replace(USUAL, snr=None, residual_percent=None))
    assert not any(one.far for one in mark_far([without, *checked[1:]]))


# --- The table


def test_the_table_has_a_line_for_every_scan(six: Path) -> None:
    (six / "healthy/control-02.nii.gz").write_bytes(b"no scan")
    with chdir(six):
        checked = check_scans(["healthy", "patient.nii.gz"], output="quality.tsv")
    lines = table_of(six / "quality.tsv")
    assert [line["scan"] for line in lines] == [str(one.image) for one in checked]
    assert (six / "quality.tsv").read_text().splitlines()[0] == "\t".join(COLUMNS)
    bad = lines[1]
    assert bad.pop("usable") == "no"
    assert bad.pop("scan") == "healthy/control-02.nii.gz"
    assert set(bad.values()) == {"n/a"}
    good = lines[0]
    figures = checked[0].figures
    assert figures is not None
    assert (good["usable"], good["unlike_protocol"], good["volumes"]) == ("yes", "no", "14")
    assert (good["shells"], good["voxel_size_mm"]) == ("2 at b=0, 12 at b=1200", "8x8x8")
    assert float(good["level"]) == pytest.approx(figures.level, rel=1e-5)
    assert float(good["mask_ml"]) == pytest.approx(figures.mask_ml, rel=1e-5)


def test_a_scan_of_another_signal_level_is_marked_in_the_table_and_told(
    six: Path, call: Run
) -> None:
    for number in range(1, 6):
        scan = six / f"healthy/control-0{number}.nii.gz"
        data = nib.load(six / "healthy/control-01.nii.gz").get_fdata()
        rescale(scan, 1) if number == 1 else nib.save(
            nib.Nifti1Image((data * (1 + number / 1000)).astype(np.float32), nib.load(scan).affine),
            scan,
        )
    rescale(six / "patient.nii.gz", 5)
    done = call("check healthy patient.nii.gz -o quality.tsv", six)
    assert done.status == 0
    assert "patient.nii.gz is far from the other scans: it has" in done.stdout
    assert "a level of" in done.stdout
    assert "level" in table_of(six / "quality.tsv")[-1]["far_from_others"].split(",")
    quiet = call("check -q healthy patient.nii.gz", six)
    assert "patient.nii.gz is far from the other scans" in quiet.stdout


def test_a_name_with_a_tab_stays_one_cell() -> None:
    (line,) = to_tsv([CheckedScan(Path("a\tb.nii.gz"))]).splitlines()[1:]
    assert len(line.split("\t")) == len(COLUMNS)


# --- The file


def test_a_table_is_not_overwritten_without_force_and_nothing_is_done_before(
    prepared: Path, tmp_path: Path, call: Run
) -> None:
    path = tmp_path / "quality.tsv"
    path.write_text("mine")
    refused = call(f"check patient.nii.gz -o {path}", prepared)
    assert (refused.status, refused.stdout, path.read_text()) == (2, "", "mine")
    assert "exists already; name another output, or overwrite it with --force" in refused.stderr
    assert call(f"check patient.nii.gz -o {path} -f", prepared).status == 0
    assert path.read_text().startswith("scan\t")
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_has_its_ending(prepared: Path, call: Run) -> None:
    before = tree_of(prepared)
    done = call("check patient.nii.gz -o patient.nii.gz -f", prepared)
    assert done.status == 2
    assert "patient.nii.gz is to be a table; expected a name that ends with .tsv" in done.stderr
    assert tree_of(prepared) == before


def test_a_table_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quality.tsv").mkdir()
    with pytest.raises(OutputError, match="is a folder; name a file to write to"):
        require_table(tmp_path / "quality.tsv", force=True)


# --- On the screen


def test_the_table_on_the_screen_is_at_most_80_columns_wide(
    prepared: Path, tmp_path: Path, call: Run
) -> None:
    long = tmp_path / "sub-averylonglabelofaparticipant_ses-andasession_dir-AP_dwi.nii.gz"
    for suffix in (".nii.gz", ".bval", ".bvec", "_mask.nii.gz"):
        name = long.name.replace("_dwi.nii.gz", "_dwi" + suffix)
        (tmp_path / name).write_bytes((prepared / f"patient{suffix}").read_bytes())
    done = call(f"check {prepared}/patient.nii.gz {long}", tmp_path)
    table = done.stdout[done.stdout.index("\nQuality") :].splitlines()
    assert max(map(len, table)) <= 80
    assert any("level" in line and "SNR" in line for line in table)


def test_a_quiet_check_and_one_of_scans_that_cannot_be_read_have_no_table(
    folder: Path, call: Run
) -> None:
    assert "Quality" not in call("check -q patient.nii.gz", folder).stdout
    (folder / "patient.nii.gz").write_bytes(b"no scan")
    assert "Quality" not in call("check patient.nii.gz", folder).stdout


# --- The protocol


def test_scans_are_held_against_what_most_are_like_and_those_that_differ_are_named(
    six: Path, call: Run
) -> None:
    first = six / "healthy/control-01.bval"
    np.savetxt(first, 2 * np.loadtxt(first)[None], fmt="%g")
    done = call("check healthy patient.nii.gz", six)
    assert done.status == 2
    assert "healthy/control-01.nii.gz: cannot be used" in done.stdout
    assert "5 of 6 scans can be used." in done.stdout
    assert (
        "Most are like healthy/control-02.nii.gz: 14 volumes (2 at b=0, 12 at b=1200), voxels of "
        "8x8x8 mm. Unlike them: healthy/control-01.nii.gz." in done.stdout
    )


def test_scans_unlike_the_model_are_named(prepared: Path, folder: Path, call: Run) -> None:
    alike = call("check healthy patient.nii.gz --model qspace-nd-model", prepared)
    assert "Unlike" not in alike.stdout
    bvals = folder / "patient.bval"
    np.savetxt(bvals, 2 * np.loadtxt(bvals)[None], fmt="%g")
    done = call("check healthy patient.nii.gz --model qspace-nd-model", folder)
    assert "Unlike the model: patient.nii.gz." in done.stdout


def test_a_scan_that_cannot_be_read_is_no_other_protocol() -> None:
    assert protocol_sentence([CheckedScan(Path("a"), problem="bad")], model=False) is None


# --- Bad volumes


def test_a_corrupt_volume_is_told_by_its_number(tmp_path: Path, call: Run) -> None:
    tiny_cohort(tmp_path, controls=1, layout="flat", table=standard_table())
    path = tmp_path / "patient.nii.gz"
    image = nib.load(path)
    data = image.get_fdata(dtype=np.float32)
    data[..., 20] *= 0.5
    nib.save(nib.Nifti1Image(data, image.affine), path)
    done = call("check patient.nii.gz -o quality.tsv", tmp_path)
    assert done.status == 0
    assert "unlike what its other directions tell in volume 20 (counted from 0)" in done.stdout
    (line,) = table_of(tmp_path / "quality.tsv")
    assert (line["bad_volumes"], line["bad_volume_numbers"]) == ("1", "20")
