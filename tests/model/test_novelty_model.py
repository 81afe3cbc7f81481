from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from qspace_nd import NoveltyModel
from qspace_nd.errors import ArrayError, InputError
from qspace_nd.network.recipes import IMAGE_PRESETS, PRESETS
from qspace_nd.progress import Task
from qspace_nd.scores import scoring
from qspace_nd.scores.reference import Reference
from qspace_nd.searching.nearest import NearestNeighbours
from qspace_nd.system.machine import find_device

SUBJECTS = ("ann", "bob", "cid", "dee")
ROWS, CHANNELS = 400, 7
TINY: dict[str, Any] = {"latents": 2, "hidden": (8, 4), "epochs": 3, "neighbours": 1}


def voxels(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, 2)) @ np.random.default_rng(0).normal(size=(2, CHANNELS))
    return (1 + 0.1 * signal + 0.02 * rng.normal(size=(rows, CHANNELS))).astype(np.float32)


GROUPS = np.repeat(SUBJECTS, ROWS // len(SUBJECTS))


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    return NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)


def same(a: NoveltyModel, b: NoveltyModel) -> bool:
    ours, theirs = a.network_.state_dict(), b.network_.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


# --- Conventions of scikit-learn


def test_settings_are_stored_unchanged() -> None:
    hidden = [64, 32]
    settings = {
        "latents": 5,
        "hidden": hidden,
        "kl_weight": 0.5,
        "epochs": 7,
        "neighbours": 3,
        "validation": 0.3,
        "preset": "paper",
        "decision_score": "recon-error",
        "seed": 3,
        "device": "cpu",
    }
    model = NoveltyModel(**settings)
    assert model.get_params() == settings
    assert model.hidden is hidden


def test_fitting_leaves_the_settings_and_returns_the_model() -> None:
    model = NoveltyModel(**TINY)
    before = model.get_params()
    assert model.fit(voxels(), groups=GROUPS) is model
    assert model.get_params() == before


def test_scikit_learn_clones_a_model(model: NoveltyModel) -> None:
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "network_")


OWN_SENTENCES = dict.fromkeys(
    [
        "check_complex_data",
        "check_dtype_object",
        "check_estimators_empty_data_messages",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_n_features_in_after_fitting",
    ],
    "refused with a ValueError, in a sentence of this project",
)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
@parametrize_with_checks(
    [NoveltyModel(latents=2, hidden=(8,), epochs=1, device="cpu")],
    expected_failed_checks=lambda estimator: OWN_SENTENCES,
)
def test_scikit_learn_finds_an_estimator(
    estimator: NoveltyModel, check: Callable[[NoveltyModel], None]
) -> None:
    check(estimator)


@pytest.mark.parametrize("score", ["latent-distance", "recon-error"])
def test_the_decision_function_is_the_score_of_the_setting(score: str) -> None:
    model = NoveltyModel(**TINY, decision_score=score).fit(voxels())
    x = voxels(30, seed=1)
    np.testing.assert_array_equal(model.decision_function(x), model.novelty(x, score))
    np.testing.assert_array_equal(model.novelty(x), model.novelty(x, score))


def test_a_decision_score_that_does_not_exist_is_refused_when_fitting() -> None:
    with pytest.raises(InputError, match="There is no score 'nearest'"):
        NoveltyModel(**TINY, decision_score="nearest").fit(voxels())


def test_labels_are_ignored() -> None:
    plain = NoveltyModel(**TINY).fit(voxels())
    assert same(NoveltyModel(**TINY).fit(voxels(), np.arange(ROWS)), plain)


def test_a_model_is_the_last_step_of_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), NoveltyModel(**TINY))
    pipeline.set_params(noveltymodel__seed=3)
    novelty = clone(pipeline).fit(voxels()).decision_function(voxels(30, seed=1))
    scaler = StandardScaler().fit(voxels())
    model = NoveltyModel(**TINY, seed=3).fit(scaler.transform(voxels()))
    expected = model.decision_function(scaler.transform(voxels(30, seed=1)))
    np.testing.assert_array_equal(novelty, expected)


@pytest.mark.filterwarnings("ignore")  # PyOD's own
def test_tables_are_scored_in_a_pipeline_like_by_detectors_of_pyod(real_scans: Path) -> None:
    pytest.importorskip("pyod", reason="PyOD comes with the extra `benchmark`")
    from pyod.models.ecod import ECOD
    from pyod.models.iforest import IForest
    from pyod.models.knn import KNN

    peers = [KNN(), IForest(random_state=0), ECOD()]
    aucs: list[list[float]] = []
    for path in sorted((real_scans / "tables").glob("*.npz")):
        with np.load(path) as arrays:
            x, outlier = arrays["X"], arrays["y"].astype(bool)
        inliers = np.flatnonzero(~outlier)[:600]
        train, test = x[inliers[::2]], np.concatenate([x[inliers[1::2]], x[outlier]])
        novel = np.arange(len(test)) >= len(inliers[1::2])
        aucs.append([])
        for detector in (NoveltyModel(epochs=100, device="cpu"), *map(clone, peers)):
            pipeline = make_pipeline(StandardScaler(), detector).fit(train)
            scores = pipeline.decision_function(test)
            assert scores.shape == (len(test),)
            aucs[-1].append(roc_auc_score(novel, scores))
    assert len(aucs) == 6
    # On so few rows a network is behind the nearest neighbours (benchmarks/RESULTS.md).
    ours, _, _, ecod = np.mean(aucs, axis=0)
    assert ours > max(0.85, ecod)


def test_what_was_given_is_left_as_it_was() -> None:
    x = voxels()
    model = NoveltyModel(**TINY).fit(x, groups=GROUPS)
    np.testing.assert_array_equal(x, voxels())
    novelty = model.novelty(voxels(20, seed=1))
    x[:] = 0
    np.testing.assert_array_equal(model.novelty(voxels(20, seed=1)), novelty)


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.encode(voxels()),
        lambda model: model.decode(np.zeros((1, 2))),
        lambda model: model.novelty(voxels()),
        lambda model: model.save(Path("never")),
    ],
)
def test_a_model_that_is_not_fitted_says_so(use: Any) -> None:
    for error in (InputError, NotFittedError):
        with pytest.raises(error, match="The model is not fitted; call fit first"):
            use(NoveltyModel(**TINY))


# --- What is learnt


def test_shapes_are_those_of_latents_and_channels(model: NoveltyModel) -> None:
    q = model.encode(voxels(5))
    p = model.decode(q.mean)
    assert (q.mean.shape, q.std.shape, p.mean.shape, p.std.shape) == ((5, 2),) * 2 + ((5, 7),) * 2
    assert isinstance(q.mean, np.ndarray)
    assert q.mean.dtype == p.std.dtype == np.float32
    assert (q.std > 0).all()
    assert (p.std > 0).all()


def test_all_rows_are_the_reference(model: NoveltyModel) -> None:
    assert len(model.reference_) == ROWS
    assert model.reference_.subjects == set(SUBJECTS)
    for part in model.reference_.parts:
        np.testing.assert_array_equal(part.views.x, voxels()[part.subject == GROUPS])


@pytest.mark.parametrize("score", ["latent-distance", "input-distance"])
def test_a_voxel_of_the_reference_has_no_novelty(model: NoveltyModel, score: str) -> None:
    novelty = model.novelty(voxels(), score)
    assert (novelty.shape, novelty.dtype) == ((ROWS,), np.float32)
    assert (novelty == 0).all()


@pytest.mark.parametrize("score", ["latent-distance", "input-distance"])
def test_distances_are_those_of_a_loop(model: NoveltyModel, score: str) -> None:
    x, y = voxels(20, seed=1), voxels()
    if score == "latent-distance":
        x, y = model.encode(x).mean, model.encode(y).mean
    expected = [min(math.dist(one.tolist(), other.tolist()) for other in y) for one in x]
    np.testing.assert_allclose(model.novelty(voxels(20, seed=1), score), expected, rtol=1e-5)


@pytest.mark.parametrize(("preset", "number"), [("default", 10), ("paper", 1)])
def test_distances_are_the_mean_to_as_many_neighbours_as_the_preset_says(
    preset: str, number: int
) -> None:
    model = NoveltyModel(**TINY | {"neighbours": None, "preset": preset}).fit(voxels())
    assert (model.neighbours, model.neighbours_) == (None, number)
    x, y = model.encode(voxels(20, seed=1)).mean, model.encode(voxels()).mean
    nearest = [sorted(math.dist(a.tolist(), b.tolist()) for b in y)[:number] for a in x]
    novelty = model.novelty(voxels(20, seed=1))
    np.testing.assert_allclose(novelty, np.mean(nearest, axis=1), rtol=1e-5)


def test_several_scores_are_those_of_each(model: NoveltyModel) -> None:
    names = ["input-distance", "latent-distance"]
    x = voxels(30, seed=1)
    together = model.novelties(x, names)
    assert list(together) == names
    for name in names:
        np.testing.assert_array_equal(together[name], model.novelty(x, name))


def test_an_unknown_score_is_refused(model: NoveltyModel) -> None:
    with pytest.raises(InputError, match="There is no score 'nearest'"):
        model.novelty(voxels(), "nearest")


@pytest.mark.parametrize(
    ("preset", "widths"), [("default", [256, 128, 64]), ("paper", [64, 32, 16])]
)
def test_the_preset_decides_the_widths(preset: str, widths: list[int]) -> None:
    model = NoveltyModel(latents=8, epochs=1, preset=preset).fit(voxels())
    assert model.network_.settings["hidden"] == widths


@pytest.mark.parametrize("hidden", [[5], (5,), np.array([5])])
def test_any_list_of_widths_is_taken(hidden: Any) -> None:
    model = NoveltyModel(latents=3, hidden=hidden, epochs=1).fit(voxels())
    assert model.network_.settings["hidden"] == [5]
    assert same(model, NoveltyModel(latents=3, hidden=[5], epochs=1).fit(voxels()))


def test_epochs_are_the_most_passes_that_training_takes() -> None:
    x = voxels(10_000)
    held_out = NoveltyModel(latents=2, hidden=(4,), epochs=3, validation=0.1).fit(x)
    assert held_out.history_.steps == 3 * (9000 // PRESETS["default"].batch_size)
    few = NoveltyModel(latents=2, hidden=(4,), epochs=5).fit(x[:100])
    assert few.history_.steps == 5


def test_the_kl_weight_is_the_presets_by_default() -> None:
    plain = NoveltyModel(**TINY).fit(voxels())
    assert same(plain, NoveltyModel(**TINY, kl_weight=0.01).fit(voxels()))
    assert not same(plain, NoveltyModel(**TINY, kl_weight=1.0).fit(voxels()))


def test_the_preset_of_the_paper_has_its_non_linearity() -> None:
    model = NoveltyModel(**TINY, preset="paper").fit(voxels())
    assert model.network_.settings["activation"] == "relu"


# --- Chance, chunks, threads


def test_the_same_seed_gives_the_same_model(model: NoveltyModel) -> None:
    torch.manual_seed(123)
    again = NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)
    assert same(again, model)
    assert again.history_ == model.history_
    assert not same(NoveltyModel(**TINY, seed=1).fit(voxels(), groups=GROUPS), model)


def test_global_chance_is_not_disturbed() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
def test_maps_do_not_depend_on_the_number_of_threads() -> None:
    x, patient = voxels(9000), voxels(5000, seed=1)
    maps = []
    for number in (1, 2):
        torch.set_num_threads(number)
        model = NoveltyModel(latents=2, hidden=(8,), epochs=4).fit(x)
        maps.append(model.novelties(patient, ["latent-distance", "input-distance"]))
    for name in maps[0]:
        np.testing.assert_array_equal(maps[0][name], maps[1][name])


def test_novelty_does_not_depend_on_chunks_or_order(
    model: NoveltyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = voxels(300, seed=1)
    names = ["latent-distance", "input-distance"]
    whole = model.novelties(x, names)
    order = np.random.default_rng(0).permutation(300)
    shuffled = model.novelties(x[order], names)
    monkeypatch.setattr(scoring, "_CHUNK", 7)
    chunked = model.novelties(x, names)
    for name in names:
        np.testing.assert_array_equal(chunked[name], whole[name])
        np.testing.assert_array_equal(shuffled[name], whole[name][order])
        np.testing.assert_array_equal(model.novelty(x[5:6], name), whole[name][5:6])


def test_no_voxels_have_no_novelty(model: NoveltyModel) -> None:
    assert model.novelty(np.empty((0, CHANNELS))).shape == (0,)
    assert model.encode(np.empty((0, CHANNELS))).mean.shape == (0, 2)


def test_progress_is_told_of_every_voxel_and_score(model: NoveltyModel) -> None:
    told: dict[str, list[int]] = {}

    class Listener:
        @contextmanager
        def task(self, name: str, total: int) -> Iterator[Task]:
            self.name = name
            told[name] = [total, 0]
            yield self

        def advance(self, steps: int = 1, note: str = "") -> None:
            told[self.name][1] += steps

        def say(self, message: str) -> None:
            raise AssertionError(message)

        warn = say

    NoveltyModel(**TINY).fit(voxels(), groups=GROUPS, progress=Listener())
    model.novelties(voxels(50), ["latent-distance", "input-distance"], progress=Listener())
    assert told == {
        "Training": [3, 3],
        "Encoding the healthy reference": [4, 4],
        "Scoring voxels": [100, 100],
    }


# --- Subjects


@pytest.mark.parametrize(
    "groups",
    [
        GROUPS.tolist(),
        np.array(GROUPS, dtype=object),
        np.repeat([4, 5, 6, 7], 100),
        np.repeat([1.0, 2.0, 3.0, 4.0], 100),
        np.repeat(["a", "b", "c", "d"], 100).astype("S1"),
    ],
)
def test_groups_may_be_any_labels(groups: Any, model: NoveltyModel) -> None:
    assert same(NoveltyModel(**TINY).fit(voxels(), groups=groups), model)


def test_numbers_and_their_text_are_the_same_subject() -> None:
    groups = np.array([1, "1", 2, "2"] * 100, dtype=object)
    model = NoveltyModel(**TINY).fit(voxels(), groups=groups)
    assert sorted(part.subject for part in model.reference_.parts) == ["1", "2"]


def test_rows_of_a_subject_need_not_lie_together() -> None:
    groups = np.array(list("abcd") * 100)
    model = NoveltyModel(**TINY).fit(voxels(), groups=groups)
    assert [len(part.views) for part in model.reference_.parts] == [100] * 4
    np.testing.assert_array_equal(model.reference_.parts[2].views.x, voxels()[groups == "c"])


def test_a_subject_is_left_out_of_its_own_reference(model: NoveltyModel) -> None:
    own, others = voxels()[GROUPS == "bob"], voxels()[GROUPS != "bob"]
    novelty = model.novelty(own, "input-distance", leave_out="bob")
    expected = [min(np.linalg.norm(others.astype(float) - one, axis=1)) for one in own]
    np.testing.assert_allclose(novelty, expected, rtol=1e-5)
    assert (model.novelty(others, "latent-distance", leave_out="bob") == 0).all()


def test_a_subject_named_by_a_number_is_left_out_too() -> None:
    x = voxels()
    model = NoveltyModel(**TINY).fit(x, groups=np.repeat([1, 2, 3, 4], 100))
    assert (model.novelty(x[:100], leave_out=1) > 0).any()  # type: ignore[arg-type]


def test_a_subject_that_is_not_there_cannot_be_left_out(model: NoveltyModel) -> None:
    with pytest.raises(InputError, match="no subject 'eve' to leave out, only ann, bob, cid, dee"):
        model.novelty(voxels(), leave_out="eve")


def test_the_only_subject_cannot_be_left_out() -> None:
    model = NoveltyModel(**TINY).fit(voxels(), groups=["ann"] * ROWS)
    with pytest.raises(InputError, match="holds no one but ann"):
        model.novelty(voxels(), leave_out="ann")


def test_searches_are_made_for_the_networks_device(model: NoveltyModel) -> None:
    made = []

    def build(points: np.ndarray, device: torch.device) -> NearestNeighbours:
        made.append((points.shape, device))
        return NearestNeighbours(points, device)

    Reference(model.reference_.parts).nearest("q_bar", build)
    assert made == [((ROWS, TINY["latents"]), model.network_.device)]


@pytest.mark.parametrize("rows", [2, 3])
def test_two_voxels_are_enough(rows: int) -> None:
    for share in (0.01, 0.99):
        model = NoveltyModel(**TINY, validation=share).fit(voxels(rows))
        assert (model.novelty(voxels(rows)) == 0).all()


# --- Wrong arrays


def with_value(value: float) -> np.ndarray:
    x = voxels()
    x[3, 1] = x[3, 2] = x[7, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "sentence"),
    [
        (with_value(math.nan), "X holds NaN or infinity in 2 of 400 rows; remove them"),
        (with_value(-math.inf), "X holds NaN or infinity in 2 of 400 rows"),
        (np.where(np.eye(9) > 0, 1e300, 1.0), "X holds NaN or infinity in 9 of 9 rows"),
        ([["a", "b"], ["c", "d"]], r"X is not an array of numbers \(it holds str\d+ values\)"),
        ([["1", "2"], ["3", "4"]], r"X is not an array of numbers \(it holds str\d+ values\)"),
        (np.array([["a", 2], [3, 4]], dtype=object), "X is not an array of numbers .*'a'"),
        (np.ones((4, 2), complex), r"X is not an array of numbers \(it holds complex128 values\)"),
        (csr_array(np.eye(4)), r"X is sparse, which is not supported; give X.toarray\(\)"),
        ([[1.0, 2.0], [3.0]], "X is not an array of numbers"),
        ([[None, 1.0], [2.0, 3.0]], "X "),
        (np.ones(5), r"X has shape \(5,\); an array of rows and columns is wanted"),
        (np.ones((4, 3, 2)), r"X has shape \(4, 3, 2\); .* images \(n, planes, height, width\)"),
        (np.ones((4, 1, 0, 2)), r"X has shape \(4, 1, 0, 2\)"),
        (np.ones((1, 1, 4, 4)), r"X has shape \(1, 1, 4, 4\); a model needs at least 2"),
        (np.full((3, 1, 4, 4), np.nan), "X holds NaN or infinity in 3 of 3 rows"),
        (3.0, r"X has shape \(\)"),
        (np.ones((5, 0)), r"X has shape \(5, 0\)"),
        (np.ones((1, 5)), r"X has shape \(1, 5\); a model needs at least 2"),
        (np.ones((0, 5)), r"X has shape \(0, 5\); a model needs at least 2"),
    ],
)
def test_a_wrong_array_is_refused(x: Any, sentence: str) -> None:
    with pytest.raises(ArrayError, match=sentence):
        NoveltyModel(**TINY).fit(x)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (["a"] * 399, r"groups has shape \(399,\); one label for each of 400 rows"),
        (np.ones((400, 1)), r"groups has shape \(400, 1\)"),
        ("ann", r"groups has shape \(\)"),
    ],
)
def test_wrong_groups_are_refused(groups: Any, sentence: str) -> None:
    with pytest.raises(ArrayError, match=sentence):
        NoveltyModel(**TINY).fit(voxels(), groups=groups)


def test_other_columns_than_those_of_fitting_are_refused(model: NoveltyModel) -> None:
    with pytest.raises(ArrayError, match="X has 6 columns; the model was fitted with 7 channels"):
        model.novelty(voxels()[:, :6])
    with pytest.raises(ArrayError, match="z has 7 columns; the model was fitted with 2 latents"):
        model.decode(voxels())
    with pytest.raises(ArrayError, match="z holds NaN or infinity in 1 of 1 rows"):
        model.decode([[math.nan, 0.0]])


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"latents": 5, "hidden": None, "preset": "paper"},
            "The preset paper knows no hidden widths for 5 latents, only for 8, 16",
        ),
        ({"latents": 0}, "latents is 0; 1 or more is wanted"),
        ({"hidden": (8, 0)}, r"hidden is \(8, 0\); widths of 1 or more"),
        ({"epochs": 0}, "epochs is 0; 1 or more"),
        ({"kl_weight": -1.0}, r"kl_weight is -1\.0; 0\.0 or more"),
        ({"kl_weight": math.nan}, "kl_weight is nan"),
        ({"seed": -1}, "seed is -1; 0 or more"),
        ({"validation": 0.0}, r"validation is 0\.0; a share between 0 and 1"),
        ({"validation": 1.0}, r"validation is 1\.0"),
        ({"preset": "mine"}, "No preset is called 'mine', only default, paper"),
        ({"device": "tpu"}, "PyTorch finds no device 'tpu'"),
    ],
)
def test_a_setting_out_of_range_is_refused_when_fitting(
    settings: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ArrayError, match=sentence):
        NoveltyModel(**(TINY | settings)).fit(voxels())


def test_a_failed_refit_keeps_what_was_learnt(model: NoveltyModel) -> None:
    again = NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)
    with pytest.raises(ArrayError):
        again.fit(with_value(math.nan))
    assert same(again, model)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        np.asfortranarray,
        torch.from_numpy,
        lambda x: np.repeat(x, 2, axis=0)[::2],
    ],
)
def test_arrays_of_any_kind_are_taken(model: NoveltyModel, convert: Any) -> None:
    x = voxels(30, seed=1)
    np.testing.assert_array_equal(model.novelty(convert(x)), model.novelty(x))


def test_arrays_that_may_not_be_written_to_are_taken(model: NoveltyModel, tmp_path: Path) -> None:
    x = voxels(30, seed=1)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(model.novelty(mapped), model.novelty(x))


# --- Images


def images(rows: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, 1, 6, 5), np.float32)


@pytest.fixture(scope="module")
def of_images() -> NoveltyModel:
    return NoveltyModel(latents=2, hidden=(4, 4), epochs=2, device="cpu").fit(images())


def test_images_come_out_in_their_own_shape(of_images: NoveltyModel) -> None:
    q = of_images.encode(images(5))
    p = of_images.decode(q.mean)
    assert q.mean.shape == q.std.shape == (5, 2)
    assert p.mean.shape == p.std.shape == (5, 1, 6, 5)
    error = np.sqrt(((images(5) - p.mean.astype(float)) ** 2).sum(axis=(1, 2, 3)))
    np.testing.assert_allclose(of_images.novelty(images(5), "recon-error"), error, rtol=1e-6)


def test_an_image_of_the_reference_has_no_novelty(of_images: NoveltyModel) -> None:
    assert (of_images.decision_function(images()) == 0).all()
    assert (of_images.decision_function(images(9, seed=1)) > 0).all()


@pytest.mark.parametrize("preset", PRESETS)
def test_images_have_recipes_of_their_own(preset: str) -> None:
    recipe = IMAGE_PRESETS[preset]
    one = NoveltyModel(latents=2, epochs=1, preset=preset).fit(images())
    weight = recipe.kl_weight
    assert same(
        one, NoveltyModel(latents=2, epochs=1, preset=preset, kl_weight=weight).fit(images())
    )
    assert one.network_.settings["hidden"] == list(recipe.hidden)


@pytest.mark.parametrize("x", [images()[:, :, :5], images().reshape(60, 30)])
def test_other_images_than_those_of_fitting_are_refused(
    of_images: NoveltyModel, x: np.ndarray
) -> None:
    with pytest.raises(
        ArrayError, match=r"X has shape \(60, .*fitted with inputs of shape \(1, 6, 5"
    ):
        of_images.novelty(x)


def test_vectors_are_wanted_where_vectors_were_fitted(model: NoveltyModel) -> None:
    with pytest.raises(ArrayError, match=r"X has shape \(60, 1, 6, 5\); .* inputs of shape \(7,\)"):
        model.novelty(images())


# --- Devices


def test_auto_is_a_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert find_device("auto") == torch.device("cpu")
    with pytest.raises(ArrayError, match="PyTorch finds no device 'cuda' on this machine"):
        find_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_device("auto") == find_device("cuda") == torch.device("cuda")
    assert find_device("cpu") == torch.device("cpu")
