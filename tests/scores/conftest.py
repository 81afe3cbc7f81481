"""What tests of scores share: small trained models, voxels and images, and all scores of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qspace_nd.gaussian import Gaussian
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.catalogue import PAPER
from qspace_nd.scores.reference import Reference

Novelties = dict[str, NDArray[np.float32]]

CHANNELS, LATENTS = 12, 4


def signals(number: int, seed: int) -> NDArray[np.float32]:
    """Voxels of 12 channels about 1: a curved sheet of three dimensions, and noise."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(3, CHANNELS))
    sheet = np.tanh(rng.normal(size=(number, 3)) @ mixing)
    return (1.0 + 0.3 * sheet + 0.03 * rng.normal(size=sheet.shape)).astype(np.float32)


@pytest.fixture(scope="session")
def trained() -> NoveltyModel:
    """A small model of 1,500 healthy voxels, trained to be useful."""
    model = NoveltyModel(
        latents=LATENTS, hidden=(24, 12), epochs=400, neighbours=1, seed=5, device="cpu"
    )
    return model.fit(signals(1500, seed=0), groups=np.repeat(["a", "b", "c"], 500))


@pytest.fixture(scope="session")
def voxels() -> NDArray[np.float32]:
    """260 voxels, more than a block of the optimiser: healthy ones and, from 200 on, novel ones."""
    novel = signals(60, seed=2) + np.random.default_rng(3).normal(size=(60, CHANNELS)) * 0.5
    return np.concatenate([signals(200, seed=1), novel]).astype(np.float32)


@pytest.fixture(scope="session")
def novelties(trained: NoveltyModel, voxels: NDArray[np.float32]) -> Novelties:
    """All scores of the voxels."""
    return trained.novelties(voxels, list(PAPER))


def with_reference(model: NoveltyModel, reference: Reference) -> NoveltyModel:
    other = copy.copy(model)
    other.reference_ = reference
    return other


def with_first(model: NoveltyModel, number: int) -> NoveltyModel:
    """The model with a reference of its first `number` voxels."""
    return with_reference(model, Reference([replace(model.reference_.parts[0], stop=number)]))


def drawings(number: int, seed: int) -> NDArray[np.float32]:
    """Images of two planes of 9 x 8 pixels in [0, 1]: a blob each, anywhere, and noise."""
    rng = np.random.default_rng(seed)
    line, column = rng.uniform(1, 7, size=(2, number, 1, 1, 1))
    height, width = np.arange(9)[:, None], np.arange(8)
    blob = np.exp(-((height - line) ** 2 + (width - column) ** 2) / 4)
    noise = 0.02 * rng.random((number, 2, 9, 8))
    return np.clip(np.concatenate([blob, 0.5 * blob], axis=1) + noise, 0, 1).astype(np.float32)


@pytest.fixture(scope="session")
def trained_on_images() -> NoveltyModel:
    """A small model of 400 images."""
    model = NoveltyModel(latents=3, hidden=(8, 8), epochs=100, seed=5, device="cpu")
    return model.fit(drawings(400, seed=0), groups=np.repeat(["a", "b"], 200))


@pytest.fixture(scope="session")
def images() -> NDArray[np.float32]:
    """230 images: healthy ones and, from 200 on, novel ones, dark on bright."""
    return np.concatenate([drawings(200, seed=1), 1 - drawings(30, seed=2)])


@pytest.fixture(scope="session")
def novelties_of_images(trained_on_images: NoveltyModel, images: NDArray[np.float32]) -> Novelties:
    """All scores of the images."""
    return trained_on_images.novelties(images, list(PAPER))


def cloud(number: int, dimensions: int, seed: int) -> Gaussian[torch.Tensor]:
    """Gaussians about a curve, of standard deviations from 0.01 to 1."""
    rng = np.random.default_rng(seed)
    along = rng.normal(size=(number, 1))
    mean = np.sin(along * np.arange(1, dimensions + 1)) + 0.1 * rng.normal(
        size=(number, dimensions)
    )
    std = np.exp(rng.uniform(np.log(0.01), 0, size=(number, 1)) + 0.1 * np.cos(5 * mean))
    return Gaussian(torch.from_numpy(mean).float(), torch.from_numpy(std).float())


def in_chunks(gaussians: Gaussian[torch.Tensor], size: int) -> Iterator[Gaussian[torch.Tensor]]:
    for start in range(0, len(gaussians), size):
        yield gaussians[start : start + size]
