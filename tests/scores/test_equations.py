"""Every score beside its equation: in float64, one voxel and one healthy voxel at a time."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.scores.catalogue import CATALOGUE, PAPER
from qspace_nd.scores.views import Noise
from tests.scores.conftest import CHANNELS, LATENTS, with_first

Values = NDArray[np.float64]


@dataclass
class Equations:
    """One voxel's scores, written from their equations."""

    network: torch.nn.Module
    healthy: Values
    seed: int

    def posterior(self, x: Values) -> tuple[Values, Values]:
        q = self.network.encode(torch.from_numpy(x))
        return q.mean.numpy(), q.std.numpy()

    def likelihood(self, z: Values) -> tuple[Values, Values]:
        p = self.network.decode(torch.from_numpy(z))
        return p.mean.numpy(), p.std.numpy()

    def output(self, x: Values) -> tuple[Values, Values]:
        return self.likelihood(self.posterior(x)[0])

    def samples(self, x: Values, *, hat: bool) -> list[tuple[Values, Values, Values]]:
        """Mean and standard deviation of each p(z_i), and x_i."""
        noise = Noise.draw(self.seed, LATENTS, CHANNELS)
        mean, std = self.posterior(x)
        drawn = []
        for of_z, of_x in zip(noise.z.double().numpy(), noise.x.double().numpy(), strict=True):
            m, s = self.likelihood(mean + std * of_z if hat else mean)
            drawn.append((m, s, m + s * of_x))
        return drawn


def distance(a: Values, b: Values) -> float:
    return float(np.sqrt(sum((i - j) ** 2 for i, j in zip(a, b, strict=True))))


def log_density(x: Values, mean: Values, std: Values) -> float:
    return float(
        sum(
            -((i - m) ** 2) / (2 * s**2) - np.log(s * np.sqrt(2 * np.pi))
            for i, m, s in zip(x, mean, std, strict=True)
        )
    )


def overlap(p: tuple[Values, Values], q: tuple[Values, Values]) -> float:
    return float(
        sum(
            (m - n) ** 2 / (4 * (s**2 + t**2)) + np.log((s**2 + t**2) / (2 * s * t)) / 2
            for m, s, n, t in zip(*p, *q, strict=True)
        )
    )


def divergence(q: tuple[Values, Values]) -> float:
    return float(sum((m**2 + s**2 - 1) / 2 - np.log(s) for m, s in zip(*q, strict=True)))


def minus_log_mean(logarithms: list[float]) -> float:
    return float(np.log(len(logarithms)) - np.logaddexp.reduce(logarithms))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def recon_errors(e: Equations, x: Values) -> list[float]:
    return [distance(x, m) for m, _, _ in e.samples(x, hat=True)]


def recon_likelihoods(e: Equations, x: Values) -> list[float]:
    return [-log_density(x, m, s) for m, s, _ in e.samples(x, hat=True)]


def sampled_errors(e: Equations, x: Values, *, hat: bool) -> list[float]:
    return [distance(x, drawn) for _, _, drawn in e.samples(x, hat=hat)]


EQUATIONS: dict[str, Callable[[Equations, Values], float]] = {
    "input-distance": lambda e, x: min(distance(x, y) for y in e.healthy),
    "latent-kl": lambda e, x: divergence(e.posterior(x)),
    "latent-distance": lambda e, x: min(
        distance(e.posterior(x)[0], e.posterior(y)[0]) for y in e.healthy
    ),
    "latent-bhattacharyya": lambda e, x: min(
        overlap(e.posterior(x), e.posterior(y)) for y in e.healthy
    ),
    "latent-density": lambda e, x: minus_log_mean(
        [log_density(e.posterior(x)[0], *e.posterior(y)) for y in e.healthy]
    ),
    "recon-error": lambda e, x: distance(x, e.output(x)[0]),
    "recon-likelihood": lambda e, x: -log_density(x, *e.output(x)),
    "recon-error-qhat": lambda e, x: mean(recon_errors(e, x)),
    "recon-likelihood-qhat": lambda e, x: mean(recon_likelihoods(e, x)),
    "recon-error-phat": lambda e, x: mean(sampled_errors(e, x, hat=False)),
    "recon-error-qhat-phat": lambda e, x: mean(sampled_errors(e, x, hat=True)),
    "recon-error-qhat-min": lambda e, x: min(recon_errors(e, x)),
    "recon-likelihood-qhat-min": lambda e, x: min(recon_likelihoods(e, x)),
    "recon-error-phat-min": lambda e, x: min(sampled_errors(e, x, hat=False)),
    "recon-error-qhat-phat-min": lambda e, x: min(sampled_errors(e, x, hat=True)),
    "output-distance": lambda e, x: min(
        distance(e.output(x)[0], e.output(y)[0]) for y in e.healthy
    ),
    "output-bhattacharyya": lambda e, x: min(overlap(e.output(x), e.output(y)) for y in e.healthy),
    "output-density": lambda e, x: minus_log_mean(
        [log_density(e.output(x)[0], *e.output(y)) for y in e.healthy]
    ),
    "input-output-distance": lambda e, x: min(distance(x, e.output(y)[0]) for y in e.healthy),
    "input-output-density": lambda e, x: minus_log_mean(
        [log_density(x, *e.output(y)) for y in e.healthy]
    ),
    "output-input-distance": lambda e, x: min(distance(e.output(x)[0], y) for y in e.healthy),
    "neg-elbo": lambda e, x: divergence(e.posterior(x)) + recon_likelihoods(e, x)[0],
    "neg-elbo-qhat": lambda e, x: divergence(e.posterior(x)) + mean(recon_likelihoods(e, x)),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_a_score_is_its_equation_in_float64(
    name: str, trained: NoveltyModel, voxels: NDArray[np.float32]
) -> None:
    model = with_first(trained, 40)
    network = copy.deepcopy(trained.network_).double()
    healthy = model.reference_.parts[0].views.x.double().numpy()
    equations = Equations(network, healthy, trained.seed)
    some = np.concatenate([voxels[:3], voxels[-5:]])
    expected = [EQUATIONS[name](equations, x) for x in some.astype(np.float64)]
    np.testing.assert_allclose(
        model.novelty(some, name), expected, atol=1e-4, rtol=1e-4, err_msg=name
    )


def test_every_score_but_the_generated_ones_has_an_equation_here() -> None:
    generated = {name for name in PAPER if CATALOGUE[name].family == "Generated"}
    assert set(PAPER) == set(EQUATIONS) | generated
