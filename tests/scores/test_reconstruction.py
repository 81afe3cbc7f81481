"""Laws between the scores of what the network makes of a voxel."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from numpy.typing import NDArray

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.catalogue import PAPER
from tests.scores.conftest import Novelties

MINIMA = [name for name in PAPER if name.endswith("-min")]


@pytest.mark.parametrize("name", MINIMA)
def test_a_minimum_is_at_most_its_mean(name: str, novelties: Novelties) -> None:
    assert (novelties[name] <= novelties[name.removesuffix("-min")]).all()


def test_the_negative_elbo_is_the_sum_of_its_terms(novelties: Novelties) -> None:
    total = novelties["latent-kl"].astype(np.float64) + novelties["recon-likelihood-qhat"]
    np.testing.assert_allclose(novelties["neg-elbo-qhat"], total, rtol=1e-6, atol=1e-5)


def test_samples_follow_the_seed_of_the_model(
    trained: NoveltyModel, voxels: NDArray[np.float32], novelties: Novelties
) -> None:
    other = copy.copy(trained)
    other.seed = trained.seed + 1
    name = "recon-error-qhat"
    assert (other.novelty(voxels, name) != novelties[name]).mean() > 0.9
