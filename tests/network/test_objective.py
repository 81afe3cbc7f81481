"""Slopes of the objective of training, held against PyTorch's derivatives in float64."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor

from qspace_nd.network import dense
from qspace_nd.network.dense import DenseSlopes
from qspace_nd.network.image_vae import ImageVAE
from qspace_nd.network.objective import Found, objective, slopes
from qspace_nd.network.vae import ACTIVATIONS, LOG_STD_LIMIT, VAE, VectorVAE

ROWS, CHANNELS, LATENTS = 300, 7, 3  # rows of more than two blocks of compiled code
KL_WEIGHT = 0.3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def standardised(network: VAE, x: Tensor) -> VAE:
    if network.standardised:
        network.standardise(x)
    return network


def vectors(
    activation: str = "silu", hidden: tuple[int, ...] = (16, 8), standard: bool = True
) -> tuple[VectorVAE, Tensor]:
    """A network and voxels for it (n, C)."""
    x = 3.0 + 2.0 * torch.randn(ROWS, CHANNELS)
    return standardised(VectorVAE(CHANNELS, LATENTS, hidden, activation, standard), x), x


def images() -> tuple[VAE, Tensor]:
    """A network and images for it."""
    x = torch.rand(20, 2 * 6 * 5)
    return standardised(ImageVAE((2, 6, 5), LATENTS, (4, 3)), x), x


def expected(network: VAE, kl_weight: float, x: Tensor, noise: Tensor) -> tuple[Tensor, list]:
    """The objective in float64, and its slopes by each weight."""
    exact = copy.deepcopy(network).double()
    total = objective(exact, x.double(), noise.double(), kl_weight).sum()
    return total.detach(), list(torch.autograd.grad(total, list(exact.parameters())))


def assert_as_expected(found: Found, total: Tensor, by_weight: list[Tensor]) -> None:
    torch.testing.assert_close(found[0].double(), total, rtol=1e-6, atol=0)
    sizes = [one.numel() for one in by_weight]
    for ours, theirs in zip(found[1].split(sizes), by_weight, strict=True):
        error = (ours.double() - theirs.flatten()).norm()
        assert error <= 3e-6 * theirs.norm(), (float(error), float(theirs.norm()))


def assert_dense_slopes(network: VectorVAE, x: Tensor, kl_weight: float = KL_WEIGHT) -> Found:
    """The slopes for `x` are those in float64, and looking for them has changed nothing."""
    noise, voxels = torch.randn(len(x), LATENTS), x.clone()
    weights = copy.deepcopy(network.state_dict())
    found = DenseSlopes(network, kl_weight)(x, noise)
    assert_as_expected(found, *expected(network, kl_weight, x, noise))
    assert torch.equal(x, voxels)
    assert all(torch.equal(old, network.state_dict()[name]) for name, old in weights.items())
    assert all(weight.grad is None for weight in network.parameters())
    return found


# --- Any network


@pytest.mark.parametrize("data", [vectors, images])
def test_slopes_of_any_network_are_those_in_float64(data) -> None:
    network, x = data()
    noise = torch.randn(len(x), LATENTS)
    found = slopes(network, KL_WEIGHT, x, noise)
    assert_as_expected(found, *expected(network, KL_WEIGHT, x, noise))
    assert all(weight.grad is None for weight in network.parameters())


# --- Fully connected networks


@pytest.mark.parametrize("hidden", [(16, 8), (9, 4, 10, 3), (200,), ()])
@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("standard", [True, False])
def test_dense_slopes_are_those_in_float64(
    activation: str, hidden: tuple[int, ...], standard: bool
) -> None:
    assert_dense_slopes(*vectors(activation, hidden, standard))


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 256, 257])
def test_dense_slopes_of_any_number_of_rows(rows: int) -> None:
    network, x = vectors()
    assert_dense_slopes(network, x[:rows])


def test_dense_slopes_follow_the_weights() -> None:
    network, x = vectors()
    noise = torch.randn(ROWS, LATENTS)
    find = DenseSlopes(network, KL_WEIGHT)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(3):
        found = find(x, noise)
        assert_as_expected(found, *expected(network, KL_WEIGHT, x, noise))
        sizes = [weight.numel() for weight in network.parameters()]
        for weight, own in zip(network.parameters(), found[1].split(sizes), strict=True):
            weight.grad = own.view_as(weight)
        optimiser.step()


@pytest.mark.parametrize("kl_weight", [0.0, 1.0])
def test_the_second_term_is_weighted(kl_weight: float) -> None:
    assert_dense_slopes(*vectors(), kl_weight=kl_weight)


@pytest.mark.parametrize("beyond", [LOG_STD_LIMIT + 3.0, -LOG_STD_LIMIT - 3.0])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_slopes_are_nought_where_a_standard_deviation_is_limited(side: str, beyond: float) -> None:
    network, x = vectors()
    bias = getattr(network, side)[-1].bias
    with torch.no_grad():
        bias[-1] = beyond
    found = assert_dense_slopes(network, x)[1]
    sizes = [weight.numel() for weight in network.parameters()]
    names = [name for name, _ in network.named_parameters()]
    by_name = dict(zip(names, found.split(sizes), strict=True))
    slopes_of_bias = by_name[f"{side}.{len(getattr(network, side)) - 1}.bias"]
    assert slopes_of_bias[-1] == 0
    assert torch.all(slopes_of_bias[: len(bias) // 2] != 0)


def test_threads_share_what_finds_dense_slopes() -> None:
    network, x = vectors(hidden=(64, 32))
    noise, find = torch.randn(ROWS, LATENTS), DenseSlopes(network, KL_WEIGHT)
    parts = list(zip(x.split(50), noise.split(50), strict=True)) * 20
    alone = [find(*part) for part in parts]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda part: find(*part), parts))
    for (total, found), (total_alone, found_alone) in zip(together, alone, strict=True):
        assert torch.equal(total, total_alone)
        assert torch.equal(found, found_alone)
    whole = find(x, noise)
    torch.testing.assert_close(sum(total for total, _ in alone[:6]), whole[0])
    torch.testing.assert_close(sum(one for _, one in alone[:6]), whole[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_what_is_no_number_is_not_hidden(activation: str) -> None:
    network, x = vectors(activation)
    with torch.no_grad():
        network.decoder[0].weight[0, 0] = torch.nan
    total, _ = DenseSlopes(network, KL_WEIGHT)(x, torch.randn(ROWS, LATENTS))
    assert torch.isnan(total)


def test_compiled_code_knows_all_activations() -> None:
    assert list(ACTIVATIONS) == ["silu", "relu"]


# --- Elementary functions


def test_exponentials_are_within_three_units_of_the_last_place() -> None:
    x = np.linspace(-87.0, 87.0, 20_001, dtype=np.float32)
    found = np.array([dense._exp(one) for one in x], dtype=np.float64)
    assert np.abs(found / np.exp(x.astype(np.float64)) - 1.0).max() < 3.0 * 2.0**-23
    assert dense._exp(np.float32(-1e9)) == dense._exp(np.float32(-87.0))
    assert dense._exp(np.float32(1e9)) == dense._exp(np.float32(87.0))


def test_logarithms_are_within_three_units_of_the_last_place() -> None:
    x = np.concatenate([np.geomspace(1e-37, 1e38, 20_001), np.linspace(0.5, 2.0, 2001)])
    found = np.array([dense._log(np.float32(one)) for one in x], dtype=np.float64)
    exact = np.log(x.astype(np.float32).astype(np.float64))
    assert (np.abs(found - exact) <= 3.0 * 2.0**-23 * np.maximum(np.abs(exact), 0.1)).all()
