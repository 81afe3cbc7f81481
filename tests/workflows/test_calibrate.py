"""Maps of patients beside those of healthy people, from files to files."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.calibration.clusters import HealthyClusters
from qspace_nd.calibration.comparable import Comparable
from qspace_nd.calibration.summary import PRECISION
from qspace_nd.errors import InputError, OutputError
from qspace_nd.layouts.pairing import find_maps
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows import verdict
from qspace_nd.workflows.add import add_scans
from qspace_nd.workflows.calibrate import calibrate_model
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import MODEL, PATIENT, Run, tiny_cohort

HEALTHY = [f"healthy/control-0{number}.nii.gz" for number in range(1, 6)]
BOTH = ("latent-distance", "input-distance")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat cohort and a model of four of its five controls."""
    folder = tmp_path_factory.mktemp("calibrated")
    tiny_cohort(folder, controls=5, layout="flat")
    with chdir(folder):
        fit_scans(HEALTHY[:4], NoveltyModel(epochs=1), MODEL, template=False)
    return folder


@pytest.fixture
def there(study: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    with chdir(copy):
        yield copy


def test_a_map_comes_with_what_its_values_mean(
    there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        (files,) = map_scans([PATIENT], MODEL, "novelty.nii.gz")
    assert "% of the brain is above the healthy 1 % (healthy people:" in caplog.text
    mask = nib.load(files.mask).get_fdata() > 0
    novelty = nib.load("novelty.nii.gz").get_fdata()
    logp = nib.load("novelty_neglogp.nii.gz").get_fdata()
    labels = nib.load("novelty_clusters.nii.gz")
    comparable = Comparable(NoveltyModel.load(MODEL).null().maps)
    affine, brought = labels.affine, novelty[mask].astype(np.float32)
    brought, level = comparable.bring(brought, mask, affine)
    expected = -np.log10(comparable.null.p_values(brought))
    shares = comparable.null.shares.thinned(PRECISION)
    np.testing.assert_allclose(logp[mask], -np.log10(shares.p_values(brought)), rtol=1e-5)
    assert (logp[mask] < expected + 1e-6).all()
    assert (logp[mask] > expected - 5e-5).all()
    assert (logp[~mask] == 0).all()
    assert labels.get_data_dtype() == np.int32
    with Path("novelty_clusters.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == labels.get_fdata().max()
    facts = json.loads(Path("novelty.json").read_text())
    assert facts["HealthyPeople"] == 4
    assert facts["Clusters"] == len(rows)
    assert facts["LevelAboveHealthy"] == pytest.approx(level, abs=1e-3)
    assert facts["ShareAboveHealthy1Percent"] == pytest.approx((logp[mask] > 2).mean(), abs=1e-6)
    assert nib.load("novelty.nii.gz").header["cal_max"] == pytest.approx(shares.threshold(0.001))
    assert [record.path for record in find_maps([Path()])] == [Path("novelty.nii.gz")]
    before = Path("novelty_clusters.tsv").stat().st_mtime_ns
    map_scans([PATIENT], MODEL, "novelty.nii.gz")
    assert Path("novelty_clusters.tsv").stat().st_mtime_ns == before  # skipped


def test_fit_measures_each_healthy_person_by_the_others(there: Path) -> None:
    model = NoveltyModel.load(MODEL)
    for part, one in zip(model.reference_.parts, model.null().maps, strict=True):
        novelty = model.novelty(part.views.x.numpy(), leave_out=part.subject)
        np.testing.assert_array_equal(one.novelty, novelty)
        assert one.mask is not None
        assert np.count_nonzero(one.mask) == len(novelty)


def test_a_scan_of_another_level_is_brought_to_it_and_warned_of(
    there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = nib.load(PATIENT)
    random = np.random.default_rng(0)
    values = np.asarray(image.dataobj)
    noise = random.normal(scale=2 * values.mean(), size=values.shape)
    nib.save(nib.Nifti1Image((values + noise).astype(np.float32), image.affine), PATIENT)
    map_scans([PATIENT], MODEL, "noisy.nii.gz")
    facts = json.loads(Path("noisy.json").read_text())
    assert facts["LevelAboveHealthy"] > 0.5 + facts["HealthyLevels"][1]
    assert "above healthy people's, in units of their spread" in caplog.text
    assert facts["ShareAboveHealthy1Percent"] < 0.1


def test_a_healthy_person_is_compared_with_the_others_alone(there: Path) -> None:
    map_scans([HEALTHY[0]], MODEL, "novelty.nii.gz")
    facts = json.loads(Path("novelty.json").read_text())
    assert facts["HealthyPeople"] == 3


def test_another_score_is_compared_once_it_is_calibrated(there: Path, call: Run) -> None:
    map_scans([PATIENT], MODEL, "before.nii.gz", MapSettings(BOTH))
    assert Path("before_latent-distance_neglogp.nii.gz").exists()
    assert not Path("before_input-distance_neglogp.nii.gz").exists()
    run = call("calibrate --score input-distance", there)
    assert "input-distance: left-out controls have" in run.stderr
    map_scans([PATIENT], MODEL, "after.nii.gz", MapSettings(BOTH))
    assert Path("after_latent-distance_neglogp.nii.gz").exists()
    assert Path("after_input-distance_clusters.tsv").exists()


def test_a_table_tells_how_each_scan_of_a_folder_stands(there: Path) -> None:
    map_scans([HEALTHY[4], PATIENT], MODEL, "maps")
    with Path("maps/novelty.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["scan"] for row in rows] == ["control-05", "patient"]
    facts = json.loads(Path("maps/patient_novelty.json").read_text())
    assert float(rows[1]["share_above_1_percent"]) == facts["ShareAboveHealthy1Percent"]
    assert float(rows[1]["cluster_mass"]) == facts["ClusterMass"]
    place = facts["AmongHealthy"]["ClusterMass"]
    assert int(rows[1]["cluster_mass_healthy_with_as_much"]) == place["WithAsMuch"]
    null = Comparable(NoveltyModel.load(MODEL).null().maps).null
    masses = HealthyClusters(null, 0.05).masses.values()
    assert place["WithAsMuch"] == sum(scans[0].sum() >= facts["ClusterMass"] for scans in masses)
    assert place["Most"] == pytest.approx(max(scans[0].sum() for scans in masses))
    before = Path("maps/novelty.tsv").read_text()
    map_scans([HEALTHY[0]], MODEL, "maps")  # the others' lines stay
    assert set(before.splitlines()) < set(Path("maps/novelty.tsv").read_text().splitlines())


def regions_of(table: str) -> list[tuple[str, float, str]]:
    with Path(table).open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    return [(row["region"], float(row["region_share"]), row["peak_region"]) for row in rows]


def test_an_atlas_on_the_scans_grid_names_the_clusters(there: Path) -> None:
    mask = nib.load("patient_mask.nii.gz")
    halves = np.ones(mask.shape, np.int16)
    halves[mask.shape[0] // 2 :] = 2
    nib.save(nib.Nifti1Image(halves, mask.affine), "halves.nii.gz")
    Path("halves.tsv").write_text("index\tname\n1\tone half\n2\tother half\n")
    map_scans([PATIENT], MODEL, "n.nii.gz", MapSettings(atlas=Path("halves.nii.gz")))
    found = regions_of("n_clusters.tsv")
    labels, logp = (nib.load(f"n_{name}.nii.gz").get_fdata() for name in ("clusters", "neglogp"))
    for number, (name, share, at_peak) in enumerate(found, start=1):
        inside = halves[labels == number]
        first = np.mean(inside == 1)
        assert name == ("one half" if first >= 0.5 else "other half")
        assert share == pytest.approx(max(first, 1 - first), abs=0.006)
        peak = halves[
            np.unravel_index(np.argmax(np.where(labels == number, logp, 0)), labels.shape)
        ]
        assert at_peak == ("one half" if peak == 1 else "other half")
    assert len(found) > 1
    Path("halves.tsv").write_text("index\tname\n1\tA\n2\tB\n")
    with pytest.raises(OutputError, match=r"made with Atlas halves.nii.gz"):
        map_scans([PATIENT], MODEL, "n.nii.gz", MapSettings(atlas=Path("halves.nii.gz")))


def test_an_atlas_of_which_no_use_can_be_made_is_refused(there: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.int16), np.eye(4)), "other.nii.gz")
    atlas = Path("other.nii.gz")
    with pytest.raises(InputError, match=r"other.nii.gz lies on another grid than the scan"):
        map_scans([PATIENT], MODEL, "n.nii.gz", MapSettings(atlas=atlas))
    with pytest.raises(InputError, match=r"other.nii.gz would name clusters, of which the model"):
        map_scans([PATIENT], MODEL, "n.nii.gz", MapSettings(neighbours=3, atlas=atlas))
    assert not list(Path().glob("n*.nii.gz"))


def test_a_table_of_somebody_else_is_not_written_over(there: Path) -> None:
    Path("maps").mkdir()
    Path("maps/novelty.tsv").write_text("my notes\n")
    with pytest.raises(OutputError, match=r"maps/novelty.tsv is there and is no table of novelty"):
        map_scans([PATIENT], MODEL, "maps")
    assert sorted(Path("maps").iterdir()) == [Path("maps/novelty.tsv")]


def test_what_is_not_measured_alike_is_not_compared(there: Path) -> None:
    map_scans([PATIENT], MODEL, "n.nii.gz", MapSettings(neighbours=3))
    map_scans([PATIENT], MODEL, "a.nii.gz", MapSettings(search="approximate"))
    assert not list(Path().glob("*_neglogp*"))


def test_what_was_said_of_a_map_goes_with_it(there: Path) -> None:
    map_scans([PATIENT], MODEL, "novelty.nii.gz")
    assert len(list(Path().glob("novelty_clusters.*"))) == 3
    map_scans([PATIENT], MODEL, "novelty.nii.gz", MapSettings(neighbours=3), force=True)
    assert not list(Path().glob("novelty_clusters.*"))
    assert not list(Path().glob("novelty_neglogp.*"))
    Path("novelty_clusters.nii.gz").write_bytes(Path(PATIENT).read_bytes())  # another program's
    Path("novelty_clusters.tsv").write_text("mine")
    map_scans([PATIENT], MODEL, "novelty.nii.gz", MapSettings(neighbours=4), force=True)
    assert Path("novelty_clusters.tsv").read_text() == "mine"


def test_people_who_are_added_are_measured_and_count(there: Path) -> None:
    add_scans([HEALTHY[4]], MODEL)
    null = NoveltyModel.load(MODEL).null()
    assert len(null.subjects) == 5
    map_scans([PATIENT], MODEL, "novelty.nii.gz")
    assert json.loads(Path("novelty.json").read_text())["HealthyPeople"] == 5


def test_a_model_that_was_not_to_be_calibrated_stays_so_when_people_are_added(
    there: Path, call: Run
) -> None:
    scans = " ".join(HEALTHY[:4])
    run = call(f"fit {scans} --model plain --no-template --no-calibrate --epochs 1", there)
    assert run.status == 0, run.stderr
    add_scans([HEALTHY[4]], "plain")
    map_scans([PATIENT], "plain", "novelty.nii.gz")
    assert not Path("novelty_neglogp.nii.gz").exists()


def test_people_who_were_too_few_are_measured_when_there_are_enough(
    there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        fit_scans(HEALTHY[:3], NoveltyModel(epochs=1), "few", template=False)
    assert "no p-values and no clusters, as the model is of 3 people: 4 or more" in caplog.text
    add_scans([HEALTHY[3]], "few")
    assert len(NoveltyModel.load("few").null().subjects) == 4


def test_few_people_are_no_null(folder: Path, call: Run) -> None:
    run = call("calibrate", folder)
    assert run.status == 2
    assert "cannot be told by 3 of them; expected 4 or more: fit the model on more" in run.stderr


def test_a_threshold_that_forms_no_cluster_is_refused() -> None:
    with pytest.raises(InputError, match=r"cluster_share is 1; a share between 0 and 1"):
        MapSettings(cluster_share=1)


def test_a_template_that_is_wanting_is_told_before_any_work(there: Path) -> None:
    with pytest.raises(InputError, match="has no template, which placed-distance needs"):
        calibrate_model(MODEL, MapSettings("placed-distance"))
    with pytest.raises(InputError, match="found exactly; leave the approximate search"):
        calibrate_model(MODEL, MapSettings(search="approximate"))


def test_ages_are_kept_and_a_patient_beyond_them_is_warned_of(
    there: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"control-0{number}\t{20 + number}\tF" for number in range(1, 6)]
    text = "\n".join(["participant_id\tage\tsex", *rows, "patient\t86\tF"]) + "\n"
    Path("participants.tsv").write_text(text)
    fit_scans(HEALTHY, NoveltyModel(epochs=1), "aged", template=False, calibrate=False)
    model = NoveltyModel.load("aged")
    assert model.acquisition_ is not None
    assert [scan.age for scan in model.acquisition_.scans] == [21, 22, 23, 24, 25]
    map_scans([PATIENT], "aged", "old.nii.gz")
    assert "an age of 86 years (theirs: 21 to 25)" in caplog.text
    assert json.loads(Path("old.json").read_text())["UnlikeModel"] == [
        "an age of 86 years (theirs: 21 to 25)"
    ]


def test_whether_shares_go_with_age_and_sex_is_told(
    there: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    acquisition = NoveltyModel.load(MODEL).acquisition_
    assert acquisition is not None
    scans = acquisition.scans
    ages, sexes = (30.0, 40.0, 50.0, 60.0), "FFMM"
    aged = [replace(s, age=a, sex=x) for s, a, x in zip(scans, ages, sexes, strict=True)]
    acquisition = replace(acquisition, scans=tuple(aged))
    monkeypatch.setattr(verdict, "_LEAST_AGED", 4)
    monkeypatch.setattr(verdict, "_LEAST_OF_SEX", 2)
    for shares, told in (
        ((1, 2, 3, 4), "goes with age"),
        ((2, 4, 1, 3), "not seen to go with age"),
    ):
        found = {scan.subject: share / 100 for scan, share in zip(scans, shares, strict=True)}
        caplog.clear()
        with caplog.at_level(logging.INFO):
            verdict.report_people(acquisition, found)
        assert told in caplog.text
        assert "not seen to go with sex (F " in caplog.text
