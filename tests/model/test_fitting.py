"""By which recipe a network is trained, and on which rows."""

from __future__ import annotations

import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from qspace_nd import NoveltyModel
from qspace_nd.errors import ArrayError
from qspace_nd.model import fitting
from qspace_nd.model.fitting import fit_network, recipe_of, widths_of
from qspace_nd.model.rows import Healthy
from qspace_nd.network.image_vae import ImageVAE
from qspace_nd.network.recipes import (
    FEW,
    IMAGE_PRESETS,
    LATENTS,
    OF_FEW_IMAGES,
    OF_TABLES,
    PRESETS,
)
from qspace_nd.network.table_vae import TableVAE, directions
from qspace_nd.network.vae import VectorVAE
from qspace_nd.progress import SILENT
from qspace_nd.system.machine import Machine
from qspace_nd.system.memory import GB
from tests.model.conftest import CHANNELS, GROUPS, ROWS, TINY, images, same, voxels

VECTOR, IMAGE = (CHANNELS,), (1, 6, 5)


# --- Recipes


@pytest.mark.parametrize(
    ("preset", "widths"), [("default", (256, 128, 64)), ("paper", (64, 32, 16))]
)
def test_the_preset_decides_the_widths(preset: str, widths: tuple[int, ...]) -> None:
    assert widths_of(NoveltyModel(latents=8, preset=preset), VECTOR) == widths


@pytest.mark.parametrize("preset", PRESETS)
def test_images_have_recipes_of_their_own(preset: str) -> None:
    model = NoveltyModel(preset=preset)
    assert recipe_of(model, VECTOR) == PRESETS[preset]
    assert recipe_of(model, IMAGE) == IMAGE_PRESETS[preset] != PRESETS[preset]
    assert widths_of(model, IMAGE) == IMAGE_PRESETS[preset].hidden


def test_the_kl_weight_is_the_presets_by_default() -> None:
    assert recipe_of(NoveltyModel(), VECTOR).kl_weight == PRESETS["default"].kl_weight
    assert recipe_of(NoveltyModel(kl_weight=0.5), VECTOR).kl_weight == 0.5
    plain = NoveltyModel(**TINY).fit(voxels())
    assert not same(plain, NoveltyModel(**TINY, kl_weight=1.0).fit(voxels()))


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


# --- Networks


@pytest.mark.parametrize("hidden", [[5], (5,), np.array([5])])
def test_any_list_of_widths_is_taken(hidden: Any) -> None:
    model = NoveltyModel(latents=3, hidden=hidden, epochs=1).fit(voxels())
    assert model.network_.settings["hidden"] == [5]
    assert same(model, NoveltyModel(latents=3, hidden=[5], epochs=1).fit(voxels()))


def test_images_are_given_the_widths_of_their_preset() -> None:
    model = NoveltyModel(latents=2, epochs=1).fit(images())
    assert model.network_.settings["hidden"] == list(IMAGE_PRESETS["default"].hidden)


def test_the_preset_of_the_paper_has_its_non_linearity() -> None:
    model = NoveltyModel(**TINY, preset="paper").fit(voxels())
    assert model.network_.settings["activation"] == "relu"


def test_epochs_are_the_most_passes_that_training_takes() -> None:
    x = voxels(10_000)
    held_out = NoveltyModel(latents=2, hidden=(4,), epochs=3, validation=0.1).fit(x)
    assert held_out.history_.steps == 3 * (9000 // PRESETS["default"].batch_size)
    few = NoveltyModel(latents=2, hidden=(4,), epochs=5).fit(x[:100])
    assert few.history_.steps == 5


def test_a_trained_network_takes_no_more_slopes_and_is_on_the_device() -> None:
    scans = [Healthy("ann", voxels(200)), Healthy("bob", voxels(200, seed=1))]
    machine = Machine("cpu")
    network, history = fit_network(NoveltyModel(**TINY), scans, VECTOR, machine, SILENT)
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    assert network.device == torch.device("cpu")
    assert history.steps == 3


# --- Few rows


@pytest.mark.parametrize(
    ("settings", "how", "rows"),
    [
        ({"latents": 8}, {}, ROWS),
        ({"hidden": (16, 8)}, {}, ROWS),
        ({"preset": "paper"}, {}, ROWS),
        ({}, {"groups": GROUPS}, ROWS),
        ({}, {"groups": ["ann"] * ROWS}, ROWS),
        ({}, {}, FEW + 1),
    ],
    ids=["latents", "hidden", "paper", "groups", "one person", "many"],
)
def test_voxels_and_whoever_says_more_keep_their_recipe(
    settings: dict[str, Any], how: dict[str, Any], rows: int
) -> None:
    model = NoveltyModel(epochs=1, **settings).fit(voxels(rows), **how)
    assert not model.few_
    assert isinstance(model.network_, VectorVAE)
    assert model.network_.latents == 8
    assert model.neighbours_ == PRESETS[model.preset].neighbours


def test_few_rows_of_nobody_are_a_table() -> None:
    model = NoveltyModel(epochs=1).fit(voxels())
    assert model.few_
    assert isinstance(model.network_, TableVAE)
    assert model.network_.latents == directions(
        torch.from_numpy(voxels()[: round(0.75 * ROWS)]), OF_TABLES.variance or 0
    )
    assert (model.latents, model.neighbours_) == (None, OF_TABLES.neighbours)


def test_scans_are_no_table_however_few_their_voxels() -> None:
    model = NoveltyModel(epochs=1).fit_parts([Healthy("ann", voxels())])
    assert not model.few_
    assert model.network_.latents == LATENTS


def test_few_images_have_latents_by_their_variance() -> None:
    small = NoveltyModel(epochs=1).fit(images())
    assert isinstance(small.network_, TableVAE)
    assert small.network_.shape == IMAGE
    large = np.random.default_rng(0).random((40, 1, 12, 12), np.float32)
    model = NoveltyModel(epochs=1).fit(large)
    assert isinstance(model.network_, ImageVAE)
    assert model.network_.settings["hidden"] == list(OF_FEW_IMAGES.hidden)
    assert model.network_.latents > LATENTS
    wide = np.zeros((9, 1, 33, 33), np.float32)
    assert not NoveltyModel(epochs=1).fit(wide + large[:9, :, :1, :1]).few_


def test_two_rows_are_enough() -> None:
    model = NoveltyModel(epochs=1).fit(voxels(2))
    assert model.decision_function(voxels(3)).shape == (3,)


def test_a_table_of_clusters_is_told_as_by_nearest_neighbours() -> None:
    random = np.random.default_rng(0)
    centres = 10 * random.normal(size=(5, 20))
    learnt, normal = (
        (centres[random.integers(5, size=n)] + random.normal(size=(n, 20))) for n in (600, 300)
    )
    novel = (centres[:, None] + 1.6 * random.normal(size=(5, 60, 20))).reshape(-1, 20)
    x, truth = np.concatenate([normal, novel]), np.arange(600) >= 300
    model = NoveltyModel(device="cpu").fit(learnt)
    nearest = NearestNeighbors(n_neighbors=1).fit(learnt).kneighbors(x)[0][:, 0]
    assert roc_auc_score(truth, model.decision_function(x)) > roc_auc_score(truth, nearest) - 0.01


@pytest.mark.parametrize("x", [voxels(), images()], ids=["table", "images"])
def test_a_model_of_few_rows_is_saved_and_read(x: np.ndarray, tmp_path: Path) -> None:
    model = NoveltyModel(epochs=1).fit(x)
    model.save(tmp_path / "model")
    again = NoveltyModel.load(tmp_path / "model")
    assert (again.few_, again.neighbours_, again.latents) == (True, 1, None)
    np.testing.assert_array_equal(again.decision_function(x), model.decision_function(x))


def test_a_saved_model_of_voxels_says_its_latents(tmp_path: Path) -> None:
    NoveltyModel(epochs=1).fit(voxels(), groups=GROUPS).save(tmp_path / "model")
    again = NoveltyModel.load(tmp_path / "model")
    assert (again.few_, again.latents) == (False, LATENTS)


# --- Rows


SCANS = [Healthy("ann", voxels(2000)), Healthy("bob", voxels(3000, seed=1))]


def test_where_memory_does_not_hold_the_rows_of_training_a_warning_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model = NoveltyModel(latents=2, hidden=(4,), epochs=1)
    model.fit_parts(SCANS, memory=1)
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "qspace_nd.model.fitting")
    sentence = r"Memory holds 1,024 of the [23],000 voxels that training would look at, drawn from"
    assert re.match(sentence, record.getMessage())
    assert len(model.reference_) == 5000


def test_memory_does_not_change_the_model_where_it_suffices(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = [
        NoveltyModel(latents=2, hidden=(4,), epochs=1).fit_parts(SCANS, memory=memory)
        for memory in (4 * GB, 40 * GB)
    ]
    assert same(*models)
    assert not caplog.records


@pytest.mark.parametrize("most", [100, 2000])
def test_rows_to_train_on_come_first_and_are_as_many_as_wanted(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "_most_rows", lambda *arguments: most)
    training, validation = fitting.hold_out(SCANS, 0.5, 0)
    x, number = fitting._gather(training, validation, PRESETS["default"], 0, None)
    trained_on, looked_at = ((p for p in pieces if len(p)) for pieces in (training, validation))
    (one,), (other,) = trained_on, looked_at
    assert number == most
    given = {row.tobytes() for row in one.rows[:]}
    assert {row.tobytes() for row in x[:number].numpy()} <= given
    np.testing.assert_array_equal(x[number:], other.rows[:])
