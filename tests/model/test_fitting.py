"""By which recipe a network is trained, and on which rows."""

from __future__ import annotations

import logging
import math
import re
from typing import Any

import numpy as np
import pytest
import torch

from qspace_nd import NoveltyModel
from qspace_nd.errors import ArrayError
from qspace_nd.model import fitting
from qspace_nd.model.fitting import fit_network, recipe_of, widths_of
from qspace_nd.model.rows import Healthy
from qspace_nd.network.recipes import IMAGE_PRESETS, PRESETS
from qspace_nd.progress import SILENT
from qspace_nd.system.machine import Machine
from qspace_nd.system.memory import GB
from tests.model.conftest import CHANNELS, TINY, images, same, voxels

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
