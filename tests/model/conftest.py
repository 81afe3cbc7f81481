"""What tests of the model share: voxels of four people, images, and a tiny model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from qspace_nd import NoveltyModel

SUBJECTS = ("ann", "bob", "cid", "dee")
ROWS, CHANNELS = 400, 7
TINY: dict[str, Any] = {"latents": 2, "hidden": (8, 4), "epochs": 3, "neighbours": 1}


def voxels(rows: int = ROWS, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(rows, 2)) @ np.random.default_rng(0).normal(size=(2, CHANNELS))
    return (1 + 0.1 * signal + 0.02 * rng.normal(size=(rows, CHANNELS))).astype(np.float32)


GROUPS = np.repeat(SUBJECTS, ROWS // len(SUBJECTS))


@pytest.fixture(scope="session")
def model() -> NoveltyModel:
    """A model of 100 voxels of each of four people, which nothing may be changed of."""
    return NoveltyModel(**TINY).fit(voxels(), groups=GROUPS)


def same(a: NoveltyModel, b: NoveltyModel) -> bool:
    ours, theirs = a.network_.state_dict(), b.network_.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in ours)


def images(rows: int = 60, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, 1, 6, 5), np.float32)
