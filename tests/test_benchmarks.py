from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from tests.conftest import of_extra

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def importable():
    """Let the benchmarks' modules import each other, as when one is run as a script."""
    before = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path[:] = before[0]
    for name in set(sys.modules) - before[1]:
        if BENCHMARKS in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]


@pytest.fixture(scope="module")
def cohort(importable):
    from cohorts import Cohort, Design

    return Cohort(Design(seed=5, voxel_size=8.0, reference=4, left_out=2, patients=2))


@pytest.fixture(scope="module")
def scored(cohort, importable, tmp_path_factory):
    """Scores of everything cheap, and the lines of the log."""
    import peers
    from peers import EVERY, Peer, by_neighbours
    from scoring import score_cohort

    model = partial(peers.latent_distance, epochs=3)
    some = partial(Peer, others=200)
    methods = [
        some(by_neighbours("latent-distance"), model, maps=EVERY),
        some(by_neighbours("latent-distance, network seed 1"), partial(model, seed=1), kinds=()),
        some(by_neighbours("input-distance"), peers.input_distance, kinds=()),
        some(("b=0", "MD", "FA"), peers.tensor, kinds=()),
        some(tuple(f"z{i}" for i in range(6)), peers.z_maps, kinds=()),
        some(("Mahalanobis distance",), peers.mahalanobis, kinds=()),
        some(("supervised classifier",), partial(peers.supervised, trees=10), maps=EVERY, kinds=()),
        some(
            ("recon-error (catalogue)",),
            partial(peers.catalogue_score, name="recon-error", epochs=3),
            kinds=(),
            controls=False,
        ),
    ]
    cache = tmp_path_factory.mktemp("cache")
    lines: list[str] = []

    def again():
        return list(score_cohort(cohort, 0, methods, cache, lines.append))

    return again(), again, lines


def test_the_cohorts_of_the_two_stages_share_no_seed():
    from cohorts import DEVELOPMENT_SEEDS, FINAL_SEEDS

    assert not set(DEVELOPMENT_SEEDS) & set(FINAL_SEEDS)


def test_patients_of_all_kinds_have_the_same_heads_and_lesions(cohort):
    ones, others = cohort.patients("demyelinating"), cohort.patients("restricted")
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.labels, other.labels)
        assert (one.x != other.x).any()


def test_the_references_channels_have_mean_one(cohort):
    np.testing.assert_allclose(cohort.reference_rows().mean(axis=0), 1.0, atol=1e-4)


def test_every_method_scores_all_lesion_voxels_and_as_many_others(scored):
    for one in scored[0]:
        assert np.isfinite(one.scores).all()
        assert one.labels.sum() == one.scan.labels.sum()
        assert (~one.labels).sum() == 200
        assert one.weights.sum() == pytest.approx(len(one.scan.labels))


def test_scores_in_the_cache_are_not_computed_again(scored):
    first, again, lines = scored
    written = len(lines)
    second = again()
    assert len(lines) == written
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.scores, other.scores)


def test_input_distance_is_the_least_distance_to_the_reference(cohort, scored):
    patient = cohort.patients()[0]
    name = "input-distance, nearest"
    one = next(one for one in scored[0] if one.name == name and one.labels.any())
    x = patient.x[one.rows[:20]].astype(np.float64)
    apart = np.linalg.norm(x[:, None] - cohort.reference_rows()[None], axis=-1).min(axis=1)
    np.testing.assert_allclose(one.scores[:20], apart, rtol=1e-5)


def test_a_z_map_is_the_deviation_from_the_controls_in_their_standard_deviation(cohort):
    from peers import _moments

    random = np.random.default_rng(0)
    volumes = list(random.normal(size=(4, 3, 3, 3, 2)))
    mean, std = _moments(volumes, [np.ones((3, 3, 3), bool)] * 4)
    np.testing.assert_allclose(mean, np.mean(volumes, axis=0))
    assert (std >= np.std(volumes, axis=0, ddof=1) - 1e-12).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (5.0, 9.0)])
def test_an_interval_holds_the_mean_within_the_figures(low, high):
    from cohorts import Design
    from summary import interval

    random = np.random.default_rng(0)
    values = {(Design(seed), str(i)): random.uniform(low, high, 1) for seed in (1, 2) for i in "ab"}
    (one,) = interval(values)
    assert low <= one.low <= one.mean <= one.high <= high
    assert one.mean == pytest.approx(np.mean(list(values.values())))


def test_lesions_above_either_threshold_are_found_and_clusters_away_from_them_counted():
    from cohorts import Design, Scan
    from scoring import Scored
    from summary import false_clusters, lesions_found

    mask = np.ones((20, 20, 20), bool)
    labels, novelty = np.zeros(mask.shape, bool), np.zeros(mask.shape, np.float32)
    labels[2:4, 2:4, 2:4] = labels[10:12, 10:12, 10:12] = True  # the second is missed
    novelty[2:5, 2:4, 2:4] = novelty[16:18, 16:18, 16:18] = 5.0  # the second is false

    def scan(name, kind, labels, novelty):
        empty, flat = np.empty((0, 1), np.float32), labels[mask]
        one = Scan(name, kind, empty, empty, mask, flat, flat, np.diag([3.0, 3.0, 3.0, 1.0]))
        rows = np.arange(flat.size)
        values = novelty[mask]
        return Scored("m", "m", Design(0), one, rows, values, values, 1.0, {})

    none = np.zeros_like(labels)
    controls = [scan(f"c{i}", "healthy", none, np.zeros_like(novelty)) for i in range(2)]
    patients = [scan("p", "demyelinating", labels, novelty)]
    bins = lesions_found(patients, controls)
    assert [one.lesions for one in bins] == [0, 2, 0, 0, 0]  # 216 mm³ each
    assert [one.by_controls for one in bins] == [0, 1, 0, 0, 0]
    assert [one.by_own for one in bins] == [0, 1, 0, 0, 0]
    found = false_clusters(patients, controls)
    assert found.patients == [1]
    assert found.everywhere == [2]
    assert found.controls == [0, 0]
    assert found.shares == [0.0, 0.0]


def test_the_report_says_what_was_measured_and_replaces_its_own_section_only(
    scored, tmp_path, monkeypatch
):
    import summary
    from accuracy import with_smoothing
    from accuracy_figure import draw
    from accuracy_tables import markdown
    from results import write_section
    from summary import Results

    monkeypatch.setattr(summary, "RESAMPLES", 100)
    results = Results(with_smoothing(scored[0], [8.0]))
    text = markdown(results, "development", "python benchmarks/accuracy.py", 8.0)
    for wanted in ("latent-distance, smoothed 8 mm", "| supervised classifier |", "restricted"):
        assert wanted in text
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\nOther figures.\n")
    write_section(path, "accuracy", text)
    write_section(path, "accuracy", "New.")
    assert path.read_text() == (
        "# Results\n\nOther figures.\n\n<!-- begin accuracy -->\nNew.\n<!-- end accuracy -->\n"
    )
    draw(results, tmp_path / "accuracy.png", 8.0)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000


@pytest.mark.filterwarnings("ignore")  # PyOD's own
def test_a_detector_of_pyod_learns_and_scores(cohort):
    pytest.importorskip("pyod", reason="PyOD comes with the extra `benchmark`")
    import peers
    from peers import Detector

    fitted = peers.pyod(cohort, detector=Detector("ecod", "ECOD", 500))
    assert fitted.score(cohort.patients()[0], np.arange(7)).shape == (7, 1)


# --- heads of real people


@pytest.fixture
def unregistered(monkeypatch):
    """Heads lie where they are: simulated ones nearly do, and registration has tests of its own."""
    import placed_peers

    from qspace_nd.registration.places import Registration
    from qspace_nd.registration.template import Template

    def first(images):
        return Template(images[0].values, images[0].mask, images[0].affine)

    monkeypatch.setattr(placed_peers, "build_template", first)
    monkeypatch.setattr(placed_peers, "register", lambda *_: Registration(np.eye(4), None))


def _run_heads(monkeypatch, folder, *options):
    import heads
    import heads_tables
    import summary

    monkeypatch.setattr(summary, "RESAMPLES", 50)
    monkeypatch.setattr(heads_tables, "RESAMPLES", 20)
    line = ["heads.py", "--stage", "development", "--quick", "--cache", str(folder), *options]
    monkeypatch.setattr(sys, "argv", line)
    heads.main()
    return (folder / "RESULTS.md").read_text()


def test_the_report_of_heads_says_what_each_method_knows(unregistered, monkeypatch, tmp_path):
    text = _run_heads(monkeypatch, tmp_path)
    for name, knows in (
        ("latent-distance", "nothing"),
        ("latent-placed-directed-distance, toward demyelination", "place, sign"),
        ("z of MD at the place, either sign, smoothed 6 mm", "place"),
        ("supervised classifier", "labels"),
    ):
        assert f"| {name} | {knows} | 0." in text
    assert "| latent-placed-distance | Mahalanobis distance at the place | place |" in text
    again = _run_heads(monkeypatch, tmp_path)  # by scans, models and scores that were kept
    assert again == text


def test_heads_are_measured_by_the_number_of_controls(unregistered, monkeypatch, tmp_path):
    text = _run_heads(monkeypatch, tmp_path, "--controls", "2", "3")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[2:]] == ["| 2", "| 3"]
    assert rows[2][1:] != rows[3][1:]


@pytest.mark.skipif("QSPACE_ND_DATA" not in os.environ, reason="needs the folder of real scans")
def test_people_of_one_stage_are_not_of_the_other_and_none_is_used_twice(importable):
    import heads
    from cohorts import Cohort, anatomies

    assert not set(anatomies("development")) & set(anatomies("final"))
    for stage in ("development", "final"):
        for design in heads.designs(stage, quick=False):
            whose = Cohort(design)._simulation("demyelinating").whose
            people = [whose(i, patient=False) for i in range(design.reference + design.left_out)]
            people += [whose(i, patient=True) for i in range(design.patients)]
            assert len(set(people)) == len(people)


def test_kept_scans_are_the_simulated_ones_whoever_else_is_in_the_cohort(importable, tmp_path):
    from cohorts import Cohort, Design

    one = Cohort(Design(seed=5, voxel_size=8.0, reference=2, left_out=1, patients=1))
    first, second = (
        Cohort(replace(one.design, left_out=left_out), folder=tmp_path) for left_out in (0, 1)
    )
    for kept in (first, second):
        np.testing.assert_array_equal(kept.reference[0].x, one.reference[0].x)
        np.testing.assert_array_equal(kept.patients()[0].labels, one.patients()[0].labels)
    assert len(list(tmp_path.glob("scans-*"))) == 1
    np.testing.assert_array_equal(second.left_out[0].signal, one.left_out[0].signal)


# --- MNIST and tables


@pytest.fixture
def digits():
    """200 noisy images of 8 x 8 pixels with ten bright pixels that say which digit each is."""
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(10, dtype=np.uint8), 20)
    images = 0.1 * random.random((200, 1, 8, 8), np.float32)
    for image, label in zip(images, labels, strict=True):
        image[0, label % 8, label // 2 :] = 1.0
    return images, labels


def test_most_normal_images_train_and_no_novel_one_does(digits):
    from mnist import Experiment

    images, labels = digits
    one = Experiment.of(3, images, labels, most=15, few=4)
    assert len(one.train) == round(0.8 * 180)
    assert one.novel.tolist() == [False] * 15 + [True] * 15
    assert one.novel[one.few].tolist() == [False] * 4 + [True] * 4
    seen = {image.tobytes() for image in one.train}
    assert not seen & {image.tobytes() for image in (*one.test, *images[labels == 3])}
    assert {image.tobytes() for image in one.test[one.novel]} <= {
        image.tobytes() for image in images[labels == 3]
    }


def test_kernel_pca_with_all_components_reconstructs_what_it_learnt(digits, monkeypatch):
    import mnist

    images, labels = digits
    one = mnist.Experiment.of(3, images, labels, most=15, few=4)
    monkeypatch.setattr(mnist, "KERNEL_COMPONENTS", len(one.train) - 1)
    own = mnist.Experiment(3, one.train, one.train[:20], one.novel, one.few)
    assert np.abs(mnist.kernel_principal_components(own)).max() < 1e-6
    assert mnist.kernel_principal_components(one).min() > 1e-3


def test_what_was_measured_of_a_digit_is_not_measured_again(digits, tmp_path, capsys):
    import mnist

    images, labels = digits
    settings = {"latents": 2, "hidden": (4,), "epochs": 1}
    for run in range(2):
        experiment = mnist.Experiment.of(3, images, labels, most=15, few=4)
        one = mnist.Measuring(experiment, settings, tmp_path / "3.json")
        aucs = {name: one.measure(name)["auc"] for name in ("PCA", "recon-error", "output-density")}
        assert ("training" in capsys.readouterr().out) == (run == 0)
    novelty = one.model.novelty(experiment.test[[0, 1, 2, 3, 15, 16, 17, 18]], "output-density")
    above = novelty[4:, None] > novelty[:4]
    assert aucs["output-density"] == pytest.approx(above.mean())


def test_the_report_of_mnist_says_where_latent_distance_is_ahead():
    from argparse import Namespace

    import mnist

    names = ["latent-distance", "recon-likelihood-qhat", "input-distance", "PCA", "kernel PCA"]
    kept = {name: {"seconds": 15.0} for name in names}
    kept["training"] = {"steps": 10, "seconds": 60.0}
    measured = {
        digit: mnist.Measured(
            dict(zip(names, [0.9, 0.8, 0.7, 0.6 + digit, 0.5], strict=True)), kept
        )
        for digit in range(2)
    }
    text = mnist.report(measured, Namespace(most=15, few=4, paper=False, scores="none"))
    assert "recon-likelihood-qhat on 2 of 2 digits, 0.900 to 0.800 in the mean" in text
    assert "PCA on 1 of 2 digits (not 1), 0.900 to 1.100 in the mean" in text
    assert "| PCA | 0.600 | 1.600 | 1.100 |" in text
    assert "4 processor minutes, 2 of them for training" in text


def test_half_of_the_inliers_of_a_table_are_learnt_from():
    from tabular import split

    x = np.arange(21.0)[:, None]
    outlier = np.arange(21) % 5 == 0
    train, test, novel = split((x, outlier), seed=0)
    assert len(train) == 8
    assert sorted([*train[:, 0], *test[:, 0]]) == x[:, 0].tolist()
    np.testing.assert_array_equal(novel, test[:, 0] % 5 == 0)
    assert novel.sum() == 5


def test_each_digit_is_novel_in_turn_and_given_in_the_shape_that_a_method_takes(monkeypatch):
    import tabular

    shapes = []

    class Bright:
        def fit(self, x):
            shapes.append(x.shape[1:])
            return self

        def decision_function(self, x):
            return x.reshape(len(x), -1).sum(axis=1)

    for shape in ((64,), (1, 8, 8)):
        monkeypatch.setitem(tabular.DIGITS, "bright", (Bright, shape))
        aucs = tabular.digits("bright")
        assert len(aucs) == 10
        assert aucs[1] < 0.5 < aucs[8]  # few strokes, and many
    assert shapes == [(64,)] * 10 + [(1, 8, 8)] * 10
    text = tabular.digits_report({"bright": [0.5] * 9 + [1.0]})
    assert text.endswith(f"| bright | {'0.500 | ' * 9}1.000 | 0.550 |")


# --- two checkouts


def test_images_are_the_same_to_the_last_bit_or_said_to_differ(tmp_path):
    from same_maps import difference

    def write(name, values, affine, code=1):
        image = nib.Nifti1Image(values, affine)
        image.set_sform(affine, code)
        nib.save(image, tmp_path / f"{name}.nii.gz")
        return tmp_path / f"{name}.nii.gz"

    values = np.array([[[0.0, 1.0, np.nan]]], np.float32)
    one = write("one", values, np.eye(4))
    assert difference(one, write("same", values.copy(), np.eye(4))) == ""
    other = values.copy()
    other[0, 0, 1] = np.nextafter(other[0, 0, 1], 2)
    assert difference(one, write("other", other, np.eye(4))) == "largest difference 1.19e-07"
    moved = write("moved", values, np.diag([1, 1, 2, 1.0]))
    coded = write("coded", values, np.eye(4), code=2)
    assert difference(one, moved) == difference(one, coded) == "another affine or header code"
    assert difference(one, tmp_path / "absent.nii.gz") == "is made by one alone"
    assert "float32 (1, 1, 3) and float64" in difference(
        one, write("wide", values.astype(float), np.eye(4))
    )


# --- workers


def test_parts_and_workers_leave_the_files_of_one_process(importable, monkeypatch, capsys):
    of_extra("distributed")
    import workers

    before = (BENCHMARKS / "RESULTS.md").read_bytes()
    monkeypatch.setattr(sys, "argv", ["workers.py", "--quick"])
    assert workers.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| `--")]
    assert len(rows) == 3
    assert [row.endswith("| none |") for row in rows] == [False, True, True]
    assert (BENCHMARKS / "RESULTS.md").read_bytes() == before


def test_a_file_that_differs_between_ways_is_named(importable, tmp_path):
    from workers import Study

    for name, text in {"one": "a", "other": "b"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "map.json").write_text(text)
    assert Study(tmp_path).unlike("one", "one") == ""
    assert Study(tmp_path).unlike("one", "other") == "map.json"


def test_losing_links_needs_ip_and_root_and_says_so(importable, monkeypatch):
    import lost_workers

    monkeypatch.setattr(lost_workers, "which", lambda _: None)
    with pytest.raises(SystemExit, match="needs the program ip; install"):
        lost_workers.require()
    monkeypatch.setattr(lost_workers, "which", lambda _: "/sbin/ip")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="run it as root"):
        lost_workers.require()


# --- registration


def test_the_error_of_exact_registrations_is_none_and_of_one_shifted_its_shift():
    import registration

    from qspace_nd.registration.places import Registration
    from qspace_nd.registration.template import Template

    brain = np.zeros((2, 6, 6, 6), np.float32)
    template = Template(brain, brain[0] == 0, np.diag([3.0, 3.0, 3.0, 1.0]))
    lying = list(registration.motions(np.random.default_rng(0)).values())
    exact = [Registration(np.linalg.inv(motion), None) for motion in lying]
    truths = [
        lambda points, m=motion: registration.moved(points, np.linalg.inv(m)) for motion in lying
    ]
    np.testing.assert_allclose(registration.errors(template, exact, truths, 4), 0, atol=1e-4)
    shift = np.eye(4)
    shift[:3, 3] = [3.0, 4.0, 0.0]
    wrong = [Registration(shift @ exact[0].affine, None), *exact[1:]]
    found = registration.errors(template, wrong, truths, 4)
    np.testing.assert_allclose(found[0], 5.0, atol=1e-4)
    np.testing.assert_allclose(found[1:], 5 / 3, atol=1e-4)


def test_derangements_move_places_as_far_as_they_say():
    import registration

    centre = np.array([10.0, -20.0, 5.0])
    kinds = registration.derangements(np.random.default_rng(0), centre)
    points = centre + np.random.default_rng(1).normal(size=(50, 3))
    for name, motion in kinds.items():
        there = registration.moved(points, motion)
        if name.startswith("shifted"):
            apart = float(name.split()[2])
            np.testing.assert_allclose(np.linalg.norm(there - points, axis=1), apart)
        else:
            np.testing.assert_allclose(
                np.linalg.norm(there - centre, axis=1), np.linalg.norm(points - centre, axis=1)
            )
    assert len(kinds) == 6


def test_lesions_are_bright_in_flair_and_dark_in_t1w_and_nothing_else_changes(cohort, importable):
    from contrasts import CONTRASTS, contrasts

    subject = cohort._simulation("demyelinating").patient(0)
    ill, again = contrasts(subject, 3), contrasts(subject, 3)
    np.testing.assert_array_equal(ill, again)
    healthy = contrasts(replace(subject, lesion_fraction=0 * subject.lesion_fraction), 3)
    change = dict(zip(CONTRASTS, (ill - healthy)[subject.labels].mean(axis=0), strict=True))
    assert change["FLAIR"] > 20 and change["T2w"] > 20 and change["T1w"] < -10
    away = subject.mask & (subject.lesion_fraction == 0)
    assert (ill == healthy)[away].all()


def test_a_real_patients_sides_share_no_voxel(importable, real_scans, monkeypatch):
    import stacks

    seen = []

    def look(model, brain, flair, directions):
        (part,) = model.reference_.parts
        seen.append((part.views, brain))
        return {("all", "labels"): stacks.figures(brain.labels.astype(float), brain)}

    monkeypatch.setattr(stacks, "measure", look)
    monkeypatch.setattr(stacks, "NoveltyModel", partial(stacks.NoveltyModel, epochs=1))
    found = list(stacks.sides(real_scans))
    assert [one["all", "labels"] for one in found] == [[1.0] * 4] * 2
    for healthy, brain in seen:
        # Both lie on one side when the healthy one is mirrored, and no voxel's signal is in both.
        sides = [one.located.points[:, 0].sign().unique() for one in (healthy, brain)]
        assert sides[0] == sides[1]
    (first, one), (second, other) = seen
    assert len(first.x) == len(other.x) - other.labels.sum()
    assert len(second.x) == len(one.x) - one.labels.sum()
