"""The closest generated sample, held against scipy's L-BFGS-B."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.image_vae import ImageVAE
from qspace_nd.network.vae import VAE, VectorVAE
from qspace_nd.scores.catalogue import CATALOGUE
from qspace_nd.scores.closest import (
    ERROR,
    LIKELIHOOD,
    Objective,
    closest_latents,
    decode_with_slopes,
)
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Views
from tests.scores.conftest import CHANNELS, LATENTS, Novelties, signals

Values = NDArray[np.float64]
BOXES = {"free": math.inf, "bounded": 10.0}
OBJECTIVES = {"error": ERROR, "likelihood": LIKELIHOOD}


@pytest.fixture(scope="module")
def network(trained: NoveltyModel) -> VAE:
    """A small network, trained to be useful."""
    return trained.network_


@pytest.fixture(scope="module")
def mixed(network: VAE) -> Views:
    """500 voxels, half of them novel."""
    novel = signals(250, seed=2) + np.random.default_rng(3).normal(size=(250, CHANNELS)) * 0.2
    x = np.concatenate([signals(250, seed=1), novel]).astype(np.float32)
    return Views(network, torch.from_numpy(x))


def found(mixed: Views, objective: Objective, bound: float) -> tuple[Values, torch.Tensor]:
    """The objective where the search ends, and the latents there."""
    z = closest_latents(mixed.network, mixed.x, mixed.q_bar, objective, bound)
    return objective.distance(mixed.decode(z), mixed.x), z


class Decoder:
    """The objectives and their gradients in float64, written out: scipy's search is slow enough."""

    def __init__(self, network: VAE) -> None:
        self.layers = [
            (layer.weight.double().numpy(), layer.bias.double().numpy())
            for layer in network.decoder
            if isinstance(layer, torch.nn.Linear)
        ]
        self.scale, self.shift = network.scale.double().numpy(), network.shift.double().numpy()

    def value(self, z: Values, x: Values, kind: str) -> tuple[float, Values]:
        """The objective at latents z, and its gradient."""
        (*hidden, (weight, bias)), slopes = self.layers, []
        for matrix, offset in hidden:
            a = matrix @ z + offset
            gate = expit(a)
            z = a * gate
            slopes.append(gate * (1 + a * (1 - gate)))
        mean, log_std = np.split(weight @ z + bias, 2)
        above = np.exp(log_std) * self.scale
        std = 0.01 * self.scale + above
        residual = mean * self.scale + self.shift - x
        if kind == "error":
            value = float(np.sqrt(residual @ residual))
            by_mean, by_log_std = residual / value, np.zeros_like(x)
        else:
            e = residual / std
            value = float(np.sum(e**2 / 2 + np.log(std) + np.log(2 * np.pi) / 2))
            by_mean, by_log_std = e / std, (1 - e**2) / std * above
        gradient = np.concatenate([by_mean * self.scale, by_log_std]) @ weight
        for (matrix, _), slope in zip(reversed(hidden), reversed(slopes), strict=True):
            gradient = (gradient * slope) @ matrix
        return value, gradient


def by_scipy(mixed: Views, kind: str, bound: float) -> Values:
    """The objective where scipy's search from qm(x) ends."""
    decoder = Decoder(mixed.network)
    start = mixed.q_bar.clamp(-bound, bound).double().numpy()
    options = {"jac": True, "method": "L-BFGS-B", "bounds": [(-bound, bound)] * LATENTS}
    return np.array(
        [
            minimize(decoder.value, z, args=(x, kind), **options).fun
            for z, x in zip(start, mixed.x.double().numpy(), strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("kind", "box", "number"),
    [
        ("error", "free", 500),
        ("error", "bounded", 100),
        ("likelihood", "free", 100),
        ("likelihood", "bounded", 500),
    ],
)
def test_the_closest_sample_is_as_close_as_that_of_scipy(
    kind: str, box: str, number: int, mixed: Views
) -> None:
    some = Views(mixed.network, mixed.x[:: len(mixed) // number])
    name = f"generated-{kind}" + ("-bounded" if box == "bounded" else "")
    ours = CATALOGUE[name].score(some, Reference([Part("nobody", lambda: some)]))
    theirs = by_scipy(some, kind, BOXES[box])
    within = ours <= theirs + np.maximum(1e-3 * np.abs(theirs), 1e-3)
    assert within.mean() >= 0.9
    assert ours.mean() <= theirs.mean()


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_search_never_ends_higher_than_it_began(kind: str, mixed: Views) -> None:
    ours, _ = found(mixed, OBJECTIVES[kind], math.inf)
    began = OBJECTIVES[kind].distance(mixed.p, mixed.x)
    assert (ours <= began + 1e-6 * np.abs(began)).all()


@pytest.mark.parametrize("bound", [0.5, 10.0])
@pytest.mark.parametrize("kind", OBJECTIVES)
def test_a_bounded_search_stays_in_its_box(kind: str, bound: float, mixed: Views) -> None:
    _, z = found(mixed, OBJECTIVES[kind], bound)
    assert (z.abs() <= bound).all()
    assert bound == 10.0 or (z.abs() == bound).any()


def test_a_voxel_that_the_decoder_makes_is_found(network: VAE) -> None:
    z = torch.randn(300, LATENTS, generator=torch.Generator().manual_seed(0))
    x = Views(network, torch.empty(300, CHANNELS)).decode(z).mean
    distance, _ = found(Views(network, x), ERROR, math.inf)
    assert np.median(distance) < 1e-4
    assert (distance < 1e-2).mean() > 0.95


def test_each_voxel_is_searched_for_by_itself(mixed: Views) -> None:
    _, together = found(mixed, LIKELIHOOD, 10.0)
    order = torch.randperm(500, generator=torch.Generator().manual_seed(0))
    _, moved = found(Views(mixed.network, mixed.x[order]), LIKELIHOOD, 10.0)
    assert torch.equal(moved, together[order])
    _, alone = found(mixed[321:322], LIKELIHOOD, 10.0)
    assert torch.equal(alone, together[321:322])


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_the_unit_of_the_signal_does_not_matter(unit: float, mixed: Views) -> None:
    network = copy.deepcopy(mixed.network)
    network.shift *= unit
    network.scale *= unit
    ours, _ = found(Views(network, unit * mixed.x), ERROR, 10.0)
    expected, _ = found(mixed, ERROR, 10.0)
    assert ours.mean() / unit == pytest.approx(expected.mean(), rel=1e-4)


def vector_network(activation: str) -> VAE:
    network = VectorVAE(CHANNELS, LATENTS, (16, 8), activation)
    network.standardise(torch.from_numpy(signals(100, seed=0)))
    return network


def image_network(activation: str) -> VAE:
    network = ImageVAE((2, 7, 4), LATENTS, (6, 8), activation)
    network.standardise(torch.rand(100, 56))
    return network


@pytest.mark.parametrize("build", [vector_network, image_network])
@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_slopes_are_those_of_automatic_differentiation(
    activation: str, build: Callable[[str], VAE]
) -> None:
    torch.manual_seed(0)
    network = build(activation).requires_grad_(False)
    z = torch.randn(20, LATENTS)
    output = decode_with_slopes(network, z)
    p = network.decode(z)
    torch.testing.assert_close(output.p.mean, p.mean)
    torch.testing.assert_close(output.p.std, p.std)
    for row in range(20):
        jacobian = torch.autograd.functional.jacobian
        mean = jacobian(lambda z: network.decode(z[None]).mean[0], z[row])
        log_std = jacobian(lambda z: network.decode(z[None]).std.log()[0], z[row])
        torch.testing.assert_close(output.mean_slopes[row], mean.T)
        torch.testing.assert_close(output.log_std_slopes[row], log_std.T, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_the_gradient_is_that_of_the_objective(kind: str, network: VAE) -> None:
    x = torch.from_numpy(signals(20, seed=4))
    z = torch.randn(20, LATENTS, generator=torch.Generator().manual_seed(0)).requires_grad_()
    p = network.decode(z)
    value = {
        "error": lambda: 0.5 * ((p.mean - x) ** 2).sum(),
        "likelihood": lambda: -p.log_prob(x).sum(),
    }[kind]()
    (expected,) = torch.autograd.grad(value, z)
    with torch.no_grad():
        expansion = OBJECTIVES[kind].expand(decode_with_slopes(network, z.detach()), x)
    torch.testing.assert_close(expansion.gradient.float(), expected, atol=1e-3, rtol=1e-4)


def test_far_voxels_and_starts_end_the_search_finite(network: VAE) -> None:
    x = torch.full((3, CHANNELS), 1e6) * torch.tensor([[1.0], [-1.0], [0.0]])
    start = torch.tensor([[1e6], [-1e6], [0.0]]).expand(3, LATENTS)
    for objective in OBJECTIVES.values():
        for bound in BOXES.values():
            z = closest_latents(network, x, start, objective, bound)
            p = Views(network, x).decode(z)
            assert np.isfinite(objective.distance(p, x)).all()


# Laws between scores.


@pytest.mark.parametrize("kind", ["error", "likelihood"])
def test_the_closest_generated_sample_is_at_most_as_far_as_the_reconstruction(
    kind: str, novelties: Novelties
) -> None:
    assert (novelties[f"generated-{kind}"] <= novelties[f"recon-{kind}"]).all()


@pytest.mark.parametrize("kind", ["error", "likelihood"])
def test_what_all_latents_generate_is_at_most_as_far_as_what_the_box_does(
    kind: str, novelties: Novelties
) -> None:
    assert (novelties[f"generated-{kind}"] <= novelties[f"generated-{kind}-bounded"]).all()
