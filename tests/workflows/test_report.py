"""Reports, from maps to pages: each shows what lies beside its map, and no other model's."""

from __future__ import annotations

import base64
import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import chdir
from html import unescape
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.calibration.clusters import HealthyClusters
from qspace_nd.calibration.comparable import Comparable
from qspace_nd.errors import InputError, LabelError, OutputError
from qspace_nd.evaluation.chart import x, y
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.report import report_maps
from qspace_nd.workflows.settings import MapSettings
from tests.conftest import (
    LABELS,
    MODEL,
    PATIENT,
    PROGRAM,
    Run,
    register_quickly,
    tiny_cohort,
    tree_of,
)
from tests.evaluation.browsing import needs_chromium, opened
from tests.evaluation.pages import data_in, mask_in, values_in

HEALTHY = [f"healthy/control-0{number}.nii.gz" for number in range(1, 5)]
SETTINGS = MapSettings(("input-distance", "latent-distance"), explain=True)
OF_DEFAULT = Path("maps/patient_novelty_latent-distance.nii.gz")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A flat cohort, a calibrated model of it, maps of the patient and of a control."""
    folder = tmp_path_factory.mktemp("reported")
    tiny_cohort(folder, controls=4, layout="flat")
    with chdir(folder):
        fit_scans(HEALTHY, NoveltyModel(epochs=1), MODEL, template=False)
        map_scans([PATIENT, HEALTHY[0]], MODEL, "maps", SETTINGS)
    return folder


@pytest.fixture
def there(study: Path, tmp_path: Path) -> Iterator[Path]:
    copy = tmp_path / "study"
    shutil.copytree(study, copy)
    with chdir(copy):
        yield copy


def test_a_report_has_a_page_of_all_and_one_of_each(there: Path) -> None:
    files = report_maps(["maps"], MODEL, "report")
    assert [path.name for path in files] == ["index.html", "control-01.html", "patient.html"]
    assert all(path.is_file() for path in files)
    rows = data_in(files[0].read_text())["rows"]
    assert [(row["name"], row["group"], row["page"]) for row in rows] == [
        ("control-01", "mapped", "control-01.html"),
        ("patient", "mapped", "patient.html"),
        *((f"control-0{number}", "healthy", None) for number in range(1, 5)),
    ]
    assert "one of the model's healthy people (control-01)" in files[1].read_text().replace(
        "&#39;", "'"
    )


def test_a_page_holds_the_map_that_is_compared_with_healthy_people(there: Path) -> None:
    _, page = report_maps([OF_DEFAULT], MODEL, "report")
    data = data_in(page.read_text())
    logp = nib.load("maps/patient_novelty_latent-distance_neglogp.nii.gz").get_fdata()
    mask = nib.load("maps/patient_novelty_mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(values_in(data["map"]), logp[mask], atol=np.ptp(logp[mask]) / 65535)
    assert data["shares"][data["start"]] == 0.05
    assert list(data["underlays"]) == ["b=0", "FA"]
    assert list(data["deviations"])[:3] == ["b=0", "mean diffusivity", "anisotropy"]
    b0 = values_in(data["underlays"]["b=0"])
    assert len(b0) == mask_in(data["near"], data["shape"]).sum() > mask.sum()


def test_the_methods_lie_beside_the_page_of_all(there: Path) -> None:
    report_maps(["maps"], MODEL, "report")
    methods = Path("report/methods.md").read_text()
    assert re.findall(r"^## (.*)$", methods, re.M) == ["`control-01`", "`patient`"]
    assert re.findall(r"that\sk\sof\sthe\s(\d)\shealthy", methods) == ["3", "4"]
    assert Path("report/references.bib").read_text().count("@article{bullmore1999,") == 1
    for page in Path("report").glob("*.html"):  # what is left is nobody's report
        page.unlink()
    with pytest.raises(OutputError, match=r"methods\.md exists already"):
        report_maps([OF_DEFAULT], MODEL, "report")


def test_the_healthy_people_are_those_of_the_model(there: Path) -> None:
    files = report_maps(["maps"], MODEL, "report")
    null = NoveltyModel.load(MODEL).null()
    of_control, of_patient = (path.read_text() for path in files[1:])
    for page, maps in ((of_patient, null), (of_control, null.without("control-01"))):
        data, healthy = data_in(page), Comparable(maps.maps).null
        for number, share in enumerate(data["shares"]):
            masses = HealthyClusters(healthy, share).masses
            for told, own in zip(data["healthy"], masses.values(), strict=True):
                np.testing.assert_allclose(told[number][0], own[0], rtol=1e-6)
        shares = [*healthy.shares_above(0.01).values()]
        drawn = re.findall(r'<polyline class="healthy" points="(.*?)"', page)
        place = f"{x(0.01)},"
        heights = [re.search(rf"{place}([\d.]+)", points)[1] for points in drawn]
        assert [*map(float, heights)] == [*map(y, shares)]
        told = re.search(r"healthy people: ([\d.]+) % to ([\d.]+) %", page).groups()
        assert [*map(float, told)] == pytest.approx(
            [100 * min(shares), 100 * max(shares)], rel=0.05
        )


def test_the_page_of_all_has_what_the_maps_tables_have(there: Path) -> None:
    map_scans([PATIENT], MODEL, "novelty.nii.gz", MapSettings(cluster_share=0.15))
    index, page = report_maps(["novelty.nii.gz"], MODEL, "report")
    data = data_in(page.read_text())
    assert data["shares"][data["start"]] == 0.15
    row = data_in(index.read_text())["rows"][0]
    table = Path("novelty_clusters.tsv")
    clusters = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
    assert row["clusters"] == len(clusters)
    assert row["mass"] == pytest.approx(float(clusters[0]["mass"]), rel=1e-5)
    assert row["healthy"] == int(clusters[0]["healthy_people"])


@needs_chromium
def test_the_browser_names_the_regions_of_clusters_as_map_does(there: Path) -> None:
    mask = nib.load("patient_mask.nii.gz")
    blocks = 1 + np.indices(mask.shape).sum(axis=0) // 5
    nib.save(nib.Nifti1Image(blocks.astype(np.int16), mask.affine), "blocks.nii.gz")
    names = [f"{number}\tregion <{number}>" for number in range(1, blocks.max())]  # not the last
    Path("blocks.tsv").write_text("\n".join(["index\tname", *names]) + "\n")
    atlas = Path("blocks.nii.gz")
    for share in (0.05, 0.2):
        settings = MapSettings(cluster_share=share, atlas=atlas)
        map_scans([PATIENT], MODEL, f"at{share}.nii.gz", settings)
    _, page = report_maps(["at0.2.nii.gz"], MODEL, "report")
    assert "by the\natlas blocks.nii.gz, at every threshold" in page.read_text()
    for share in (0.05, 0.2):
        text = opened(page.absolute(), f"#thr={share}")[1]
        told = re.findall(r'class="text">([^<]*), ([\d.]+) %</td>', text)
        lines = Path(f"at{share}_clusters.tsv").read_text().splitlines()
        rows = list(csv.DictReader(lines, delimiter="\t"))
        assert [unescape(name) for name, _ in told] == [row["region"] for row in rows]
        shares = [float(row["region_share"]) for row in rows]
        assert [float(part) / 100 for _, part in told] == pytest.approx(shares, abs=0.011)
        assert len({row["region"] for row in rows}) > 1


@needs_chromium
def test_the_table_in_the_browser_is_that_of_map(there: Path) -> None:
    map_scans([PATIENT], MODEL, "novelty.nii.gz", MapSettings(cluster_share=0.15))
    _, page = report_maps(["novelty.nii.gz"], MODEL, "report")
    found, _ = opened(page.absolute())
    text = Path("novelty_clusters.tsv").read_text().splitlines()
    names = (
        *("cluster", "volume_mm3", "mass", "peak_neglogp", "healthy_people", "expected", "p"),
        *("peak_x", "peak_y", "peak_z"),
    )
    rows = csv.DictReader(text, delimiter="\t")
    wanted = [[float(row[name]) for name in names] for row in rows]
    assert wanted
    np.testing.assert_allclose(found.rows, wanted, rtol=1e-3, atol=1e-3)


def test_the_same_maps_have_the_same_pages(there: Path) -> None:
    report_maps(["maps"], MODEL, "one")
    report_maps(["maps"], MODEL, "other")
    assert tree_of(Path("one")) == tree_of(Path("other"))


def test_labels_are_outlined(there: Path) -> None:
    _, page = report_maps([OF_DEFAULT], MODEL, "report", labels=[LABELS])
    data = data_in(page.read_text())
    drawn = nib.load(LABELS).get_fdata() > 0
    assert mask_in(data["labels"], data["shape"]).sum() == drawn.sum() > 0
    with pytest.raises(LabelError, match="1 patient but 2 files for --labels"):
        report_maps([OF_DEFAULT], MODEL, "other", labels=[LABELS, LABELS])


def test_maps_of_another_model_are_refused(there: Path) -> None:
    fit_scans(HEALTHY, NoveltyModel(epochs=1, seed=1), "another", template=False)
    with pytest.raises(InputError, match=r"was not made by the model in .*another as it is now"):
        report_maps(["maps"], "another", "report")
    assert not Path("report").exists()


def test_what_is_there_stays_without_force(there: Path) -> None:
    Path("report").mkdir()
    Path("report/patient.html").write_text("mine")
    with pytest.raises(OutputError, match=r"patient\.html exists already"):
        report_maps([OF_DEFAULT], MODEL, "report")
    assert tree_of(Path("report")).keys() == {"patient.html"}
    report_maps([OF_DEFAULT], MODEL, "report", force=True)
    assert Path("report/patient.html").read_text() != "mine"


def test_processes_side_by_side_add_people_to_one_report(there: Path) -> None:
    people = ("patient", "control-01")
    of = [f"maps/{name}_novelty_latent-distance.nii.gz" for name in people]
    running = [subprocess.Popen([PROGRAM, "report", one, "-o", "report", "-q"]) for one in of]
    assert [process.wait(timeout=100) for process in running] == [0, 0]
    report_maps(of, MODEL, "alone")
    assert tree_of(Path("report")) == tree_of(Path("alone"))


def test_who_has_no_page_any_more_is_told_of_no_more(there: Path) -> None:
    report_maps(["maps"], MODEL, "report")
    Path("report/control-01.html").unlink()
    report_maps([OF_DEFAULT], MODEL, "report", force=True)
    report_maps([OF_DEFAULT], MODEL, "alone")
    assert tree_of(Path("report")) == tree_of(Path("alone"))


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("<p>mine</p>", "is no page of a report"),
        ('<script id="data" type="application/json">{"model": 1}</script>', "is no page"),
        (
            '<script id="data" type="application/json">{"model": "a", "rows": []}</script>',
            "tells of maps by another model",
        ),
    ],
)
def test_people_are_added_to_no_other_page(there: Path, page: str, found: str) -> None:
    index = Path("report/index.html")
    index.parent.mkdir()
    index.write_text(page)
    with pytest.raises(OutputError, match=rf"index\.html exists already and {found}"):
        report_maps([OF_DEFAULT], MODEL, "report")
    assert index.read_text() == page
    report_maps([OF_DEFAULT], MODEL, "report", force=True)
    assert len(data_in(index.read_text())["rows"]) == 5


def test_a_map_that_is_not_compared_is_shown_with_a_sentence(there: Path) -> None:
    _, page = report_maps(["maps/patient_novelty_input-distance.nii.gz"], MODEL, "report")
    text = page.read_text()
    assert "The model is not calibrated for this map (input-distance)" in text
    data = data_in(text)
    assert data["healthy"] is None
    novelty = nib.load("maps/patient_novelty_input-distance.nii.gz").get_fdata()
    inside = novelty[novelty > 0]
    at = data["thresholds"][data["start"]]
    assert np.mean(inside > at) == pytest.approx(0.05, abs=2 / len(inside))


def test_a_page_does_without_a_scan_that_is_gone(there: Path) -> None:
    PATIENT.unlink()
    _, page = report_maps([OF_DEFAULT], MODEL, "report")
    assert "its anatomy is not shown" in page.read_text()
    assert data_in(page.read_text())["underlays"] == {}


def test_what_map_warned_of_is_on_the_page(there: Path) -> None:
    sidecar = OF_DEFAULT.with_name("patient_novelty_latent-distance.json")
    facts = json.loads(sidecar.read_text())
    found = ["a b=0 brightness of 3"]
    sidecar.write_text(json.dumps(facts | {"LevelAboveHealthy": 9.0, "UnlikeModel": found}))
    _, page = report_maps([OF_DEFAULT], MODEL, "report")
    assert "lies 9 above healthy people" in page.read_text()
    assert "otherwise than the healthy people&#39;s: a b=0 brightness of 3." in page.read_text()


def test_a_map_without_its_mask_is_refused(there: Path) -> None:
    Path("maps/patient_novelty_mask.nii.gz").unlink()
    with pytest.raises(InputError, match=r"The mask of .* is not beside it"):
        report_maps([OF_DEFAULT], MODEL, "report")


def test_a_name_is_no_path_and_no_script(there: Path) -> None:
    sidecar = OF_DEFAULT.with_name("patient_novelty_latent-distance.json")
    facts = json.loads(sidecar.read_text()) | {"Patient": "<script>alert(1)<&script>.. "}
    sidecar.write_text(json.dumps(facts))
    _, page = report_maps([OF_DEFAULT], MODEL, "report")
    assert page == Path("report/script_alert_1_script.html")
    assert "<script>alert" not in page.read_text()


def test_the_command_writes_a_report(there: Path, call: Run) -> None:
    outcome = call(f"report {OF_DEFAULT} -o report", there)
    assert outcome.status == 0
    assert "Wrote report/index.html: open it in a browser" in outcome.stderr
    assert Path("report/patient.html").is_file()
    again = call(f"report {OF_DEFAULT} -o report", there)
    assert again.status == 2
    assert "exists already" in again.stderr


def test_what_knows_the_place_comes_with_a_picture_of_the_registration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_quickly(monkeypatch)
    monkeypatch.chdir(tmp_path)
    tiny_cohort(tmp_path, controls=2, layout="flat")
    fit_scans(HEALTHY[:2], NoveltyModel(epochs=1), MODEL, template=True)
    map_scans([PATIENT], MODEL, "maps", MapSettings(("latent-distance", "placed-distance")))
    _, plain = report_maps([OF_DEFAULT], MODEL, "plain")
    assert "data:image/png" not in plain.read_text()
    placed = OF_DEFAULT.with_name("patient_novelty_placed-distance.nii.gz")
    _, page = report_maps([placed], MODEL, "report")
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page.read_text())
    assert base64.b64decode(picture).startswith(b"\x89PNG")
