"""Maps of patients beside those of healthy people, from files to files."""

from __future__ import annotations

import csv
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.calibration.comparable import Comparable
from qspace_nd.errors import InputError
from qspace_nd.layouts.pairing import find_maps
from qspace_nd.model.novelty_model import NoveltyModel
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
    null, affine = comparable.null, labels.affine
    brought, level = comparable.bring(novelty[mask].astype(np.float32), mask, affine)
    expected = -np.log10(null.p_values(brought))
    np.testing.assert_allclose(logp[mask], expected, rtol=1e-5)
    assert (logp[~mask] == 0).all()
    assert labels.get_data_dtype() == np.int32
    with Path("novelty_clusters.tsv").open() as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert len(rows) == labels.get_fdata().max()
    facts = json.loads(Path("novelty.json").read_text())
    assert facts["HealthyPeople"] == 4
    assert facts["Clusters"] == len(rows)
    assert facts["LevelByHealthy"] == pytest.approx(level, abs=1e-3)
    assert facts["ShareAboveHealthy1Percent"] == pytest.approx((logp[mask] > 2).mean(), abs=1e-6)
    assert nib.load("novelty.nii.gz").header["cal_max"] == pytest.approx(null.threshold(0.001))
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
    assert facts["LevelByHealthy"] > 1.5 * facts["HealthyLevels"][1]
    assert "times the level of healthy people (theirs:" in caplog.text
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
