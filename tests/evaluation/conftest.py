"""Small cases and results to draw, and the figures that were drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from qspace_nd.evaluation.metrics import Case, Result, evaluate


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Collect the figures that are written, to look at what is in them."""
    seen: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **others: Any) -> None:
        save(figure, *arguments, **others)
        seen.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    return seen


def case_of(seed: int = 0, **others: Any) -> Case:
    """A small head with a lesion in two slices."""
    random = np.random.default_rng(seed)
    mask = np.zeros((14, 12, 10), bool)
    mask[2:-2, 2:-2, 1:-1] = True
    labels = np.zeros_like(mask)
    labels[3:5, 7:9, 6] = labels[3, 7, 5] = True
    novelty = random.gamma(2.0, 1.0, mask.shape) + 2 * labels
    names = {"patient": f"sub-{seed}", "score": "latent-distance", "latents": 8} | others
    return Case(novelty=novelty.astype(np.float32), labels=labels, mask=mask, **names)


def random_case(seed: int = 0, patient: str = "sub-01", **others: Any) -> Case:
    """A noisy map of a few lesions that partly leave the mask."""
    random = np.random.default_rng(seed)
    labels = np.zeros((12, 12, 12), bool)
    for corner in random.integers(0, 10, (5, 3)):
        x, y, z = corner
        labels[x : x + 2, y : y + 2, z : z + 3] = True
    mask = random.random(labels.shape) < 0.9
    novelty = random.gamma(2.0, 1.0, labels.shape) + 1.5 * labels
    names = {"patient": patient, "score": "latent-distance", "latents": 8} | others
    return Case(novelty=novelty.astype(np.float32), labels=labels, mask=mask, **names)


def results_of(scores: list[str], patients: int) -> list[Result]:
    """A result for each score and patient."""
    return [
        evaluate(case_of(seed, score=score), 8.0) for score in scores for seed in range(patients)
    ]


def turned(
    volumes: Sequence[np.ndarray], affine: np.ndarray, order: Sequence[int], flipped: Sequence[int]
) -> tuple[list[np.ndarray], np.ndarray]:
    """Volumes (X, Y, Z) of one place, stored with their axes in another order and sense."""
    store = np.eye(4)[:, [*order, 3]]  # from the indices they are stored by to those of before
    for axis in flipped:
        store[order[axis], axis] = -1
        store[order[axis], 3] = volumes[0].shape[order[axis]] - 1
    return [np.flip(one.transpose(order), flipped) for one in volumes], affine @ store


def require_picture(path: Path) -> None:
    """Check that a file is a PNG with something on it."""
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    pixels = imread(path)
    assert min(pixels.shape[:2]) > 200
    assert np.ptp(pixels[..., :3]) > 0.5
