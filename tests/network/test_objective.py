"""The objective of training held against a loop, its slopes against those in float64."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from qspace_nd.network.image_vae import ImageVAE
from qspace_nd.network.objective import objective, slopes
from qspace_nd.network.vae import LOG_STD_LIMIT, VAE, VectorVAE

ROWS, CHANNELS, LATENTS = 300, 7, 3
KL_WEIGHT = 0.3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def standardised(network: VAE, x: Tensor) -> VAE:
    if network.standardised:
        network.standardise(x)
    return network


def vectors(activation: str = "silu", standard: bool = True) -> tuple[VAE, Tensor]:
    """A network and voxels for it (n, C)."""
    x = 3.0 + 2.0 * torch.randn(ROWS, CHANNELS)
    return standardised(VectorVAE(CHANNELS, LATENTS, (16, 8), activation, standard), x), x


def images() -> tuple[VAE, Tensor]:
    """A network and images for it."""
    x = torch.rand(20, 2 * 6 * 5)
    return standardised(ImageVAE((2, 6, 5), LATENTS, (4, 3)), x), x


def assert_slopes_in_float64(
    network: VAE, x: Tensor, kl_weight: float = KL_WEIGHT
) -> dict[str, Tensor]:
    """The slopes by each weight are those in float64; looking for them has changed nothing."""
    noise, voxels = torch.randn(len(x), LATENTS), x.clone()
    weights = copy.deepcopy(network.state_dict())
    total, *found = slopes(network, kl_weight, x, noise)
    exact = copy.deepcopy(network).double()
    expected = objective(exact, x.double(), noise.double(), kl_weight).sum()
    torch.testing.assert_close(total.double(), expected.detach(), rtol=1e-6, atol=0)
    assert not total.requires_grad
    by_weight = torch.autograd.grad(expected, list(exact.parameters()))
    for ours, theirs in zip(found, by_weight, strict=True):
        assert (ours.double() - theirs).norm() <= 3e-6 * theirs.norm()
    assert torch.equal(x, voxels)
    assert all(torch.equal(old, network.state_dict()[name]) for name, old in weights.items())
    assert all(weight.grad is None for weight in network.parameters())
    return dict(zip(dict(network.named_parameters()), found, strict=True))


def test_the_objective_is_the_weighted_bound_computed_in_a_loop() -> None:
    network, x = vectors()
    network, x = network.double().requires_grad_(False), x[:4].double()
    noise = torch.randn(4, LATENTS, dtype=torch.float64)
    found = objective(network, x, noise, 0.3)
    for i in range(4):
        q = network.encode(x[i : i + 1])
        p = network.decode(q.mean + q.std * noise[i])
        loss = 0.0
        for mean, std in zip(q.mean[0].tolist(), q.std[0].tolist(), strict=True):
            loss += 0.3 * 0.5 * (mean**2 + std**2 - 1 - 2 * math.log(std))
        for value, mean, std in zip(
            x[i].tolist(), p.mean[0].tolist(), p.std[0].tolist(), strict=True
        ):
            loss += 0.5 * ((value - mean) / std) ** 2 + math.log(std * math.sqrt(2 * math.pi))
        assert float(found[i]) == pytest.approx(loss, rel=1e-12)


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("standard", [True, False])
def test_slopes_of_vectors_are_those_in_float64(activation: str, standard: bool) -> None:
    assert_slopes_in_float64(*vectors(activation, standard))


def test_slopes_of_images_are_those_in_float64() -> None:
    assert_slopes_in_float64(*images())


@pytest.mark.parametrize("kl_weight", [0.0, 1.0])
def test_the_second_term_is_weighted(kl_weight: float) -> None:
    assert_slopes_in_float64(*vectors(), kl_weight)


@pytest.mark.parametrize("beyond", [LOG_STD_LIMIT + 3.0, -LOG_STD_LIMIT - 3.0])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_slopes_are_nought_where_a_standard_deviation_is_limited(side: str, beyond: float) -> None:
    network, x = vectors()
    layers = getattr(network, side)
    with torch.no_grad():
        layers[-1].bias[-1] = beyond
    of_bias = assert_slopes_in_float64(network, x)[f"{side}.{len(layers) - 1}.bias"]
    assert of_bias[-1] == 0
    assert torch.all(of_bias[: len(of_bias) // 2] != 0)


@pytest.mark.parametrize("data", [vectors, images])
def test_threads_share_a_network(data) -> None:
    network, x = data()
    parts = list(zip(x.split(7), torch.randn(len(x), LATENTS).split(7), strict=True)) * 2
    alone = [slopes(network, KL_WEIGHT, *part) for part in parts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda part: slopes(network, KL_WEIGHT, *part), parts))
    for ours, theirs in zip(together, alone, strict=True):
        assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_what_is_no_number_is_not_hidden(activation: str) -> None:
    network, x = vectors(activation)
    with torch.no_grad():
        network.decoder[0].weight[0, 0] = torch.nan
    total, *_ = slopes(network, KL_WEIGHT, x, torch.randn(ROWS, LATENTS))
    assert total.isnan()


@pytest.mark.parametrize("channel", range(2))
def test_a_voxel_that_is_no_number_is_not_hidden(channel: int) -> None:
    network, x = vectors()
    x[5, channel] = torch.nan
    total, *found = slopes(network, KL_WEIGHT, x, torch.randn(ROWS, LATENTS))
    assert total.isnan()
    assert all(slope.isnan().any() for slope in found)
