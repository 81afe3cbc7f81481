from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from qspace_nd import NoveltyModel, progress
from qspace_nd.errors import ArrayError, InputError, ModelError
from qspace_nd.progress import Task
from qspace_nd.scores import scoring
from qspace_nd.scores.reference import Reference
from qspace_nd.searching.nearest import NearestNeighbours
from tests.model.conftest import CHANNELS, GROUPS, ROWS, SUBJECTS, TINY, images, same, voxels

# --- Conventions of scikit-learn


def test_settings_are_stored_unchanged() -> None:
    hidden = [64, 32]
    settings = {
        "latents": 5,
        "hidden": hidden,
        "kl_weight": 0.5,
        "epochs": 7,
        "neighbours": 3,
        "reference": 500,
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
    ours, *theirs = np.mean(aucs, axis=0)
    assert ours > max(theirs) - 0.01


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
    monkeypatch.setattr(scoring, "_NUMBERS", 0)
    chunked = model.novelties(x, names)
    for name in names:
        np.testing.assert_array_equal(chunked[name], whole[name])
        np.testing.assert_array_equal(shuffled[name], whole[name][order])
        np.testing.assert_array_equal(model.novelty(x[5:6], name), whole[name][5:6])


def test_no_voxels_have_no_novelty(model: NoveltyModel) -> None:
    assert model.novelty(np.empty((0, CHANNELS))).shape == (0,)
    assert model.encode(np.empty((0, CHANNELS))).mean.shape == (0, 2)


class Listener:
    """A listener that counts, by task, what is announced and what is done."""

    def __init__(self) -> None:
        self.told: dict[str, list[int]] = {}

    @contextmanager
    def task(self, name: str, total: int) -> Iterator[Task]:
        self.name = name
        self.told[name] = [total, 0]
        yield self

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.told[self.name][1] += steps


def test_progress_is_told_of_every_voxel_and_score(model: NoveltyModel) -> None:
    listener: Any = Listener()
    NoveltyModel(**TINY).fit(voxels(), groups=GROUPS, progress=listener)
    model.novelties(voxels(50), ["latent-distance", "input-distance"], progress=listener)
    assert listener.told == {
        "Drawing voxels to train on": [1, 1],
        "Training": [3, 3],
        "Encoding the healthy reference": [4, 4],
        "Scoring voxels": [100, 100],
    }


def test_bars_are_shown_where_a_caller_asks_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener()
    monkeypatch.setattr(progress, "bars", lambda: listener)
    model = NoveltyModel(**TINY).fit(voxels())
    model.novelty(voxels(5))
    assert listener.told == {}
    NoveltyModel(**TINY).fit(voxels(), progress=True).novelty(voxels(5), progress=True)
    assert listener.told.keys() == {
        "Drawing voxels to train on",
        "Training",
        "Encoding the healthy reference",
        "Scoring voxels",
    }


# --- Subjects


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


@pytest.mark.parametrize(
    ("x", "groups", "sentence"),
    [
        (np.full((9, 3), math.nan), None, "X holds NaN or infinity in 9 of 9 rows; remove them"),
        (np.ones((1, 1, 4, 4)), None, r"X has shape \(1, 1, 4, 4\); a model needs at least 2"),
        (np.ones((1, 5)), None, r"X has shape \(1, 5\); a model needs at least 2"),
        (np.ones((0, 5)), None, r"X has shape \(0, 5\); a model needs at least 2"),
        (np.ones((9, 5)), ["a"] * 8, r"groups has shape \(8,\); one label for each of 9 rows"),
    ],
)
def test_wrong_arrays_are_refused_when_fitting(x: Any, groups: Any, sentence: str) -> None:
    with pytest.raises(ArrayError, match=sentence):
        NoveltyModel(**TINY).fit(x, groups=groups)


def test_other_columns_than_those_of_fitting_are_refused(model: NoveltyModel) -> None:
    with pytest.raises(ArrayError, match="X has 6 columns; the model was fitted with 7 channels"):
        model.novelty(voxels()[:, :6])
    with pytest.raises(ArrayError, match="z has 7 columns; the model was fitted with 2 latents"):
        model.decode(voxels())
    with pytest.raises(ArrayError, match="z holds NaN or infinity in 1 of 1 rows"):
        model.decode([[math.nan, 0.0]])


def test_a_failed_refit_keeps_what_was_learnt(model: NoveltyModel) -> None:
    again = NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)
    with pytest.raises(ArrayError):
        again.fit(np.full((2, CHANNELS), math.nan))
    assert same(again, model)


# --- Images


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


# --- What lies on the disk


def test_damage_is_found_before_it_is_looked_at_and_only_in_what_scores_look_at(
    model: NoveltyModel, tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    path = next((tmp_path / "model" / "reference").iterdir())
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # a signal, which lie last
    path.write_bytes(data)
    loaded = NoveltyModel.load(tmp_path / "model")
    loaded.check_reference(["latent-distance", "recon-error", "output-density"])
    for score in ("input-distance", "output-input-distance"):
        with pytest.raises(ModelError, match=f"{path.name} was altered"):
            loaded.check_reference(["recon-error", score])
    assert (loaded.novelty(voxels()) == 0).all()
    with pytest.raises(ModelError, match=f"{path.name} was altered"):
        loaded.novelty(voxels(), "input-distance")
    with pytest.raises(InputError, match="There is no score 'nearest'"):
        loaded.check_reference(["nearest"])
