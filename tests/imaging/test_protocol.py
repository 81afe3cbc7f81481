"""Scans of several gradient tables, from files to maps."""

from __future__ import annotations

import json
import shutil
from contextlib import chdir
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from qspace_nd.diffusion.fsl import write_gradients
from qspace_nd.diffusion.gradients import GradientTable
from qspace_nd.diffusion.harmonics import fit_shells
from qspace_nd.diffusion.invariants import RotationInvariants
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.errors import GradientError, ScanError
from qspace_nd.imaging.grid import Grid
from qspace_nd.imaging.nifti import read_volume, write_scan
from qspace_nd.imaging.protocol import (
    ROTATION_INVARIANT,
    ScanOptions,
    bring_to,
    common_protocol,
    open_scans,
    read_scan,
)
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.voxels import read_voxels
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.simulation.cohort import Simulation, simulate_cohort
from qspace_nd.simulation.head import standard_table
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import Run, tree_of

TABLE = standard_table(unweighted=2, directions=20)
OWN = GradientTable(
    TABLE.bvals, Rotation.from_euler("zyx", [30, 50, 20], degrees=True).apply(TABLE.directions)
)
CONTROLS = [f"healthy/control-0{number}.nii.gz" for number in (1, 2, 3)]
BASELINE = ["input-distance"]
STRICT = ScanOptions(gradients="strict")


# --- What scans agree in


def scan_of(table: GradientTable | None, name: str = "s", channels: int = 22) -> Scan:
    """A scan by its header alone."""
    files = ScanFiles(Path(f"{name}.nii.gz"), None, None, None, name, name)
    grid = Grid((2, 2, 2), np.eye(4))
    return Scan(files, grid, channels if table is None else len(table.bvals), table, ())


def first_of(table: GradientTable, volumes: int) -> GradientTable:
    return GradientTable(table.bvals[:volumes], table.directions[:volumes])


def test_scans_are_resampled_wherever_their_directions_allow_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "qspace_nd")
    protocol = common_protocol([scan_of(TABLE), scan_of(OWN)])
    assert (protocol.resampled, protocol.volumes, protocol.gradients) == (True, 22, TABLE)
    assert "All scans are fitted in spherical harmonics" in caplog.text
    caplog.clear()
    few = scan_of(first_of(TABLE, 9))
    assert not common_protocol([few, few]).resampled
    assert "too few directions, or no b=0 volume, for a fit" in caplog.text
    with pytest.raises(GradientError, match="too few directions at b=1200"):
        common_protocol([few, scan_of(first_of(OWN, 9))])


def test_scans_as_they_are_must_agree() -> None:
    assert not common_protocol([scan_of(TABLE), scan_of(TABLE)], STRICT).resampled
    with pytest.raises(GradientError, match=r"own\.nii\.gz has other gradient directions"):
        common_protocol([scan_of(TABLE), scan_of(OWN, "own")], STRICT)
    assert common_protocol([scan_of(None), scan_of(None)]).gradients is None
    with pytest.raises(ScanError, match=r"has 21 channels, 22 are expected"):
        common_protocol([scan_of(None), scan_of(None, channels=21)])
    with pytest.raises(GradientError, match=r"^plain\.nii\.gz has no b-values"):
        common_protocol([scan_of(None, "plain"), scan_of(TABLE)])


def test_what_needs_b_values_is_refused_without_them() -> None:
    with pytest.raises(GradientError, match="rotation-invariant features are made of"):
        common_protocol([scan_of(None)], features=ROTATION_INVARIANT)
    with pytest.raises(GradientError, match="nothing to resample by"):
        common_protocol([scan_of(None)], ScanOptions(gradients="resample"))


def test_a_scan_is_brought_to_a_model_as_the_model_is() -> None:
    plain, resampled = (common_protocol([scan_of(TABLE)], o) for o in (STRICT, ScanOptions()))
    reverse = GradientTable(TABLE.bvals[::-1], TABLE.directions[::-1])
    as_it_is = bring_to(scan_of(reverse), plain)
    assert as_it_is.transform is None
    assert as_it_is.order is not None
    np.testing.assert_array_equal(reverse.bvals[as_it_is.order], TABLE.bvals)
    mixed = bring_to(scan_of(OWN), plain)
    assert isinstance(mixed.transform, Resampling)
    assert mixed.mixed
    assert not bring_to(scan_of(TABLE), resampled).mixed
    features = common_protocol([scan_of(TABLE)], features=ROTATION_INVARIANT)
    assert isinstance(bring_to(scan_of(OWN), features).transform, RotationInvariants)
    wide = bring_to(scan_of(OWN), plain, ScanOptions(gradients="strict", max_angle=90.0))
    assert wide.transform is None


def test_the_residual_is_computed_where_it_is_asked_for(study: Path) -> None:
    (scan,) = open_scans([study / "own.nii.gz"], STRICT)
    resampled, plain = (common_protocol([scan], options) for options in (ScanOptions(), STRICT))
    volumes = read_voxels(scan).values
    asked, not_asked = (read_scan(scan, resampled, residual=ask) for ask in (True, False))
    assert not_asked.residual is None
    assert asked.residual is not None
    np.testing.assert_array_equal(asked.values, not_asked.values)
    assert scan.gradients is not None
    fits = fit_shells(scan.gradients, "own")
    np.testing.assert_array_equal(asked.residual, fits.residual(volumes))
    assert read_scan(scan, plain, STRICT, residual=True).residual is None


# --- From files to maps


def write_subject(path: Path, table: GradientTable, index: int = 0) -> None:
    """Write the cohort's patient, or a control by a `path` in healthy/, as scanned by `table`."""
    simulation = Simulation(voxel_size=8, table=TABLE, snr=100)
    simulate = simulation.control if path.parent.name == "healthy" else simulation.patient
    _, grid = read_volume(path.parents[path.parent.name == "healthy"] / "patient_mask.nii.gz")
    name = path.name.split(".")[0]
    subject = simulate(index, table)
    write_scan(path, np.rint(subject.signal).astype(np.int16), grid)
    bval, bvec = (path.with_name(f"{name}.{ending}") for ending in ("bval", "bvec"))
    write_gradients(bval, bvec, table, subject.affine)
    nib.save(nib.Nifti1Image(subject.mask.astype(np.uint8), grid.affine), name_of_mask(path))


def name_of_mask(path: Path) -> Path:
    return path.with_name(path.name.replace(".nii", "_mask.nii"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of one table with two models, its patient scanned by that table and by another."""
    folder = tmp_path_factory.mktemp("tables")
    simulate_cohort(folder, controls=3, layout="flat", voxel_size=8, table=TABLE)
    for name, table in (("one", TABLE), ("own", OWN)):
        write_subject(folder / f"{name}.nii.gz", table)
    with chdir(folder):
        for name, options in (("unchanged", STRICT), ("resampled", ScanOptions())):
            fit_scans(CONTROLS, NoveltyModel(epochs=1), Path(name), options=options)
    return folder


def map_of(scan: str, model: str, output: Path, **options: Any) -> np.ndarray:
    reading = ScanOptions(**options)
    (files,) = map_scans(
        [scan], Path(model), output, MapSettings(BASELINE, neighbours=1), options=reading
    )
    return read_volume(files.maps["input-distance"])[0]


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    both = (one > 0) & (other > 0)
    return float(np.corrcoef(one[both], other[both])[0, 1])


def test_a_scan_of_other_directions_is_resampled_with_a_warning_and_its_residual(
    study: Path, tmp_path: Path, call: Run
) -> None:
    line = f"map own.nii.gz --model unchanged -o {tmp_path}/novelty.nii.gz -q"
    outcome = call(line, study)
    assert outcome.status == 0
    assert outcome.stderr.startswith("Warning: own.nii.gz is resampled in spherical harmonics to")
    assert "fit with --gradients resample" in outcome.stderr
    residual = read_volume(tmp_path / "novelty_residual.nii.gz")[0]
    mask = read_volume(tmp_path / "novelty_mask.nii.gz")[0] > 0
    assert (residual[mask] > 0).all()
    assert not residual[~mask].any()
    assert 0.001 < np.median(residual[mask]) < 0.05
    facts = json.loads((tmp_path / "novelty_residual.json").read_text())
    assert "as a share of the voxel's b=0 signal" in facts["Description"]
    assert json.loads((tmp_path / "novelty.json").read_text())["Resampled"]
    evaluation = call(f"eval {tmp_path} --labels {study}/lesions.nii.gz", tmp_path)
    assert evaluation.status == 0, evaluation.stderr
    assert "residual" not in evaluation.stdout


def test_resampling_gives_nearly_the_map_that_the_models_own_table_would_have_given(
    study: Path, tmp_path: Path
) -> None:
    with chdir(study):
        one = map_of("one.nii.gz", "unchanged", tmp_path / "one.nii.gz")
        own = map_of("own.nii.gz", "unchanged", tmp_path / "own.nii.gz")
        ignored = map_of("own.nii.gz", "unchanged", tmp_path / "ignored.nii.gz", max_angle=90.0)
    assert correlation(one, own) > 0.95 > correlation(one, ignored) + 0.1


def test_a_model_of_scans_as_they_are_leaves_those_that_agree_unchanged(
    study: Path, tmp_path: Path
) -> None:
    with chdir(study):
        map_of("one.nii.gz", "unchanged", tmp_path / "map.nii.gz")
    assert not (tmp_path / "map_residual.nii.gz").exists()
    assert not json.loads((tmp_path / "map.json").read_text())["Resampled"]


def test_scans_of_few_directions_are_taken_as_they_are_where_they_agree(
    study: Path, tmp_path: Path, call: Run
) -> None:
    few = GradientTable(TABLE.bvals[:9], TABLE.directions[:9])
    turned = Rotation.from_euler("z", 40, degrees=True).apply(few.directions)
    (tmp_path / "healthy").mkdir()
    (tmp_path / "patient_mask.nii.gz").symlink_to(study / "patient_mask.nii.gz")
    for number in (0, 1):
        write_subject(tmp_path / f"healthy/control-0{number}.nii.gz", few, index=number)
    outcome = call("fit healthy/*.nii.gz --epochs 1", tmp_path)
    assert outcome.status == 0, outcome.stderr
    model = NoveltyModel.load(tmp_path / "qspace-nd-model")
    assert model.acquisition_ is not None
    assert not model.acquisition_.resampled
    write_subject(tmp_path / "healthy/control-02.nii.gz", GradientTable(few.bvals, turned), index=2)
    refused = call("fit healthy/*.nii.gz --model other -q", tmp_path)
    assert (refused.status, (tmp_path / "other").exists()) == (2, False)
    assert "has too few directions at b=1200" in refused.stderr


def test_a_model_of_resampled_scans_resamples_every_scan(study: Path, tmp_path: Path) -> None:
    with chdir(study):
        one = map_of("one.nii.gz", "resampled", tmp_path / "one.nii.gz")
        own = map_of("own.nii.gz", "resampled", tmp_path / "own.nii.gz")
    assert (tmp_path / "one_residual.nii.gz").is_file()
    assert correlation(one, own) > 0.95


def test_healthy_scans_are_resampled_whether_they_agree_or_not(
    study: Path, tmp_path: Path, call: Run
) -> None:
    (tmp_path / "healthy").mkdir()
    for path in study.glob("healthy/control-0[12]*"):
        (tmp_path / "healthy" / path.name).symlink_to(path)
    (tmp_path / "patient_mask.nii.gz").symlink_to(study / "patient_mask.nii.gz")
    write_subject(tmp_path / "healthy/control-03.nii.gz", OWN, index=2)
    outcome = call("fit healthy/*.nii.gz --epochs 1", tmp_path)
    assert outcome.status == 0
    model = NoveltyModel.load(tmp_path / "qspace-nd-model")
    assert model.acquisition_ is not None
    assert model.acquisition_.resampled
    reference = NoveltyModel.load(study / "resampled").reference_
    for ours, theirs in zip(model.reference_.parts[:2], reference.parts[:2], strict=True):
        np.testing.assert_allclose(ours.views.x, theirs.views.x, rtol=0.02)
    before = tree_of(tmp_path)
    refused = call("fit healthy/*.nii.gz --gradients strict --model other -q", tmp_path)
    assert (refused.status, tree_of(tmp_path)) == (2, before)
    assert "control-03.nii.gz has other gradient directions than the model" in refused.stderr
    checked = call("check healthy/*.nii.gz -q", tmp_path)
    warnings = [line for line in checked.stdout.splitlines() if "Warning" in line]
    assert checked.status == 0
    assert not warnings  # of five times the SNR
    unlike = call("check healthy/*.nii.gz --gradients strict -q", tmp_path)
    assert unlike.status == 2
    assert "control-03.nii.gz has other gradient directions than the model" in unlike.stdout


def test_a_scan_that_lost_volumes_and_one_with_more_b0_are_mapped_alike(
    study: Path, tmp_path: Path
) -> None:
    image = nib.load(study / "one.nii.gz")
    signal = np.asarray(image.dataobj)
    for name, kept in (("less", np.r_[0:5, 7:22]), ("more", np.r_[0, 0, 11, 0:22])):
        table = GradientTable(TABLE.bvals[kept], TABLE.directions[kept])
        nib.save(nib.Nifti1Image(signal[..., kept], image.affine), tmp_path / f"{name}.nii.gz")
        write_gradients(tmp_path / f"{name}.bval", tmp_path / f"{name}.bvec", table, image.affine)
        (tmp_path / f"{name}_mask.nii.gz").symlink_to(study / "patient_mask.nii.gz")
    with chdir(study):
        whole = map_of("one.nii.gz", "resampled", tmp_path / "whole_map.nii.gz")
        for name, least in (("less", 0.95), ("more", 0.98)):
            scan, output = tmp_path / f"{name}.nii.gz", tmp_path / f"{name}_map.nii.gz"
            assert correlation(whole, map_of(str(scan), "resampled", output)) > least


@pytest.mark.parametrize(("gradients", "least"), [("strict", 0.85), ("auto", 0.97)])
def test_38_of_40_directions_with_more_b0_give_nearly_the_map_of_all(
    gradients: str, least: float, tmp_path: Path, call: Run
) -> None:
    table = standard_table(unweighted=6, directions=40)
    simulate_cohort(tmp_path, controls=2, layout="flat", voxel_size=8, table=table)
    lost = np.flatnonzero(~table.b0)[[5, 30]]
    kept = np.r_[np.setdiff1d(np.arange(46), lost), np.flatnonzero(table.b0)[:2]]
    image = nib.load(tmp_path / "patient.nii.gz")
    signal = np.asarray(image.dataobj)[..., kept]
    nib.save(nib.Nifti1Image(signal, image.affine), tmp_path / "less.nii.gz")
    fewer = GradientTable(table.bvals[kept], table.directions[kept])
    write_gradients(tmp_path / "less.bval", tmp_path / "less.bvec", fewer, image.affine)
    (tmp_path / "less_mask.nii.gz").symlink_to("patient_mask.nii.gz")
    for line in (
        f"fit healthy/*.nii.gz --epochs 1 --gradients {gradients}",
        "map patient.nii.gz --score input-distance -o whole.nii.gz",
        "map less.nii.gz --score input-distance -o novelty.nii.gz",
    ):
        outcome = call(f"{line} -q", tmp_path)
        assert outcome.status == 0, outcome.stderr
    assert ("less.nii.gz is resampled" in outcome.stderr) == (gradients == "strict")
    whole, novelty = (read_volume(tmp_path / f"{name}.nii.gz")[0] for name in ("whole", "novelty"))
    assert correlation(whole, novelty) > least


def test_rotation_invariant_features_are_fitted_and_followed_by_map(
    study: Path, tmp_path: Path, call: Run
) -> None:
    model = tmp_path / "model"
    line = f"fit healthy/*.nii.gz --features rotation-invariant --epochs 1 --model {model}"
    outcome = call(line, study)
    assert outcome.status == 0, outcome.stderr
    assert "healthy voxels of 3 subjects in 4 channels" in outcome.stderr
    acquisition = NoveltyModel.load(model).acquisition_
    assert acquisition is not None
    assert (acquisition.features, len(acquisition.channel_means)) == (ROTATION_INVARIANT, 4)
    with chdir(study):
        one = map_of("one.nii.gz", str(model), tmp_path / "one.nii.gz")
        own = map_of("own.nii.gz", str(model), tmp_path / "own.nii.gz")
    assert correlation(one, own) > 0.95
    assert json.loads((tmp_path / "own.json").read_text())["Features"] == ROTATION_INVARIANT
    strict = f"map own.nii.gz --model {model} -o {tmp_path}/no.nii.gz --gradients strict -q"
    refused = call(strict, study)
    assert (refused.status, (tmp_path / "no.nii.gz").exists()) == (2, False)
    assert "other gradient directions" in refused.stderr


def test_a_scan_of_other_directions_is_added_to_a_model_as_it_would_be_mapped(
    study: Path, tmp_path: Path, call: Run
) -> None:
    model = shutil.copytree(study / "unchanged", tmp_path / "model")
    outcome = call(f"fit --add own.nii.gz --model {model}", study)
    assert outcome.status == 0, outcome.stderr
    assert "Warning: own.nii.gz is resampled in spherical harmonics" in outcome.stderr
    added = NoveltyModel.load(model).reference_.parts[-1]
    with chdir(study):
        novelty = map_of("own.nii.gz", str(model), tmp_path / "own.nii.gz")
    assert len(added) == np.count_nonzero(novelty)  # as its own subject is left out
    before = tree_of(model)
    strict = call(f"fit --add own.nii.gz --model {study}/unchanged --gradients strict -q", study)
    assert (strict.status, tree_of(model)) == (2, before)
    assert "own.nii.gz has other gradient directions than the model" in strict.stderr


def test_a_residual_that_exists_is_not_overwritten(study: Path, tmp_path: Path, call: Run) -> None:
    (tmp_path / "map_residual.nii.gz").write_text("mine")
    line = f"map own.nii.gz --model unchanged -o {tmp_path}/map.nii.gz -q"
    outcome = call(line, study)
    assert outcome.status == 2
    assert "map_residual.nii.gz exists already" in outcome.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["map_residual.nii.gz"]


def test_a_residual_never_overwrites_an_input(study: Path, tmp_path: Path, call: Run) -> None:
    mask = tmp_path / "head_residual.nii.gz"
    shutil.copy(study / "patient_mask.nii.gz", mask)
    before = tree_of(tmp_path)
    line = f"map own.nii.gz --model unchanged --mask {mask} -o {tmp_path}/head.nii.gz --force -q"
    outcome = call(line, study)
    assert (outcome.status, tree_of(tmp_path)) == (2, before)
    assert f"{mask} would be overwritten by the output" in outcome.stderr
