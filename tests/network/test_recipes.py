from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qspace_nd.network.image_vae import network_for
from qspace_nd.network.recipes import IMAGE_PRESETS, PAPER_HIDDEN, PRESETS
from qspace_nd.network.training import train


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shape", [(5,), (1, 6, 6)], ids=["vectors", "images"])
def test_every_recipe_trains_a_network(shape: tuple[int, ...], preset: str) -> None:
    recipe = (PRESETS if len(shape) == 1 else IMAGE_PRESETS)[preset]
    hidden = recipe.hidden if isinstance(recipe.hidden, tuple) else recipe.hidden[8]
    network = network_for(shape, 8, hidden, recipe.activation, recipe.standardise)
    x = torch.rand(40, network.channels, generator=torch.Generator().manual_seed(0))
    rows = torch.arange(40)
    history = train(network, x, rows[:30], rows[30:], replace(recipe, steps=2), seed=0)
    assert history.steps == 2


def test_the_recipe_of_the_paper_is_that_of_the_paper() -> None:
    paper = PRESETS["paper"]
    assert (paper.kl_weight, paper.rate, paper.batch_size) == (1.0, 0.001, 32_768)
    assert paper.patience is not None
    assert not paper.one_cycle
    assert not paper.standardise
    assert paper.hidden is PAPER_HIDDEN
    assert paper.neighbours == 1
