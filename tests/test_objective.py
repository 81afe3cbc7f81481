from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from qspace_nd import passes
from qspace_nd.image_vae import ImageVAE
from qspace_nd.objective import Slopes, SlopesOfParts, objective
from qspace_nd.passes import AutogradPass, DensePass, Pass, Scratch
from qspace_nd.vae import ACTIVATIONS, LOG_STD_LIMIT, VAE, VectorVAE

ROWS, CHANNELS, LATENTS = 5, 7, 3

numbers = partial(torch.randn, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def standardised(network: VAE, x: Tensor) -> VAE:
    """The network in float64, with the shifts and scales of `x`."""
    network = network.double()
    if network.standardised:
        network.standardise(x.float())
    return network


def vectors(
    activation: str = "silu", hidden: tuple[int, ...] = (16, 8), standard: bool = True
) -> tuple[VAE, Tensor]:
    """A network and voxels for it (n, C)."""
    x = 3.0 + 2.0 * numbers(ROWS, CHANNELS)
    return standardised(VectorVAE(CHANNELS, LATENTS, hidden, activation, standard), x), x


def images() -> tuple[VAE, Tensor]:
    """A network and images for it."""
    x = torch.rand(ROWS, 2 * 6 * 5, dtype=torch.float64)
    return standardised(ImageVAE((2, 6, 5), LATENTS, (4, 3)), x), x


def gradients(network: VAE) -> list[Tensor]:
    found = [weight.grad for weight in network.parameters()]
    assert all(gradient is not None for gradient in found)
    return [gradient.clone() for gradient in found if gradient is not None]


def assert_as_by_autograd(
    network: VAE, slopes: Slopes, x: Tensor, kl_weight: float = 0.3, weight: float = 0.25
) -> None:
    """What is added for `x` is what PyTorch finds of the objective."""
    noise, before, voxels = numbers(len(x), LATENTS), gradients(network), x.clone()
    found = slopes.add(x, noise, weight)
    added = [after - old for after, old in zip(gradients(network), before, strict=True)]
    total = weight * objective(network, x, noise, kl_weight).sum()
    expected = torch.autograd.grad(total, list(network.parameters()))
    torch.testing.assert_close(found, total.detach(), rtol=1e-12, atol=0)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for ours, theirs in zip(added, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-14 * largest)
    assert torch.equal(x, voxels)


# --- The whole objective


@pytest.mark.parametrize("hidden", [(16, 8), (9, 4, 10, 3), (8,), ()])
@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("standard", [True, False])
def test_slopes_by_the_weights_of_vectors_are_those_of_autograd(
    activation: str, hidden: tuple[int, ...], standard: bool
) -> None:
    network, x = vectors(activation, hidden, standard)
    assert_as_by_autograd(network, Slopes(network, 0.3), x)


def test_slopes_by_the_weights_of_images_are_those_of_autograd() -> None:
    network, x = images()
    assert_as_by_autograd(network, Slopes(network, 0.3), x)


@pytest.mark.parametrize("data", [vectors, images])
def test_slopes_of_batches_of_several_sizes_are_added_up(data) -> None:
    network, x = data()
    slopes = Slopes(network, 0.3)
    for rows in (x, x[:2], x.flip(0), x[3:]):
        assert_as_by_autograd(network, slopes, rows)


@pytest.mark.parametrize("data", [vectors, images])
def test_slopes_follow_the_weights(data) -> None:
    network, x = data()
    slopes = Slopes(network, 0.3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad(set_to_none=False)
        assert_as_by_autograd(network, slopes, x)
        optimiser.step()


@pytest.mark.parametrize("kl_weight", [0.0, 1.0])
def test_the_second_term_is_weighted(kl_weight: float) -> None:
    network, x = vectors()
    assert_as_by_autograd(network, Slopes(network, kl_weight), x, kl_weight)


@pytest.mark.parametrize("beyond", [LOG_STD_LIMIT + 3.0, -LOG_STD_LIMIT - 3.0])
@pytest.mark.parametrize("side", ["encoder", "decoder"])
def test_slopes_are_nought_where_a_standard_deviation_is_limited(side: str, beyond: float) -> None:
    network, x = vectors()
    bias = getattr(network, side)[-1].bias
    with torch.no_grad():
        bias[-1] = beyond
    assert_as_by_autograd(network, Slopes(network, 0.3), x)
    assert bias.grad[-1] == 0
    assert torch.all(bias.grad[: len(bias) // 2] != 0)


@pytest.mark.parametrize("data", [vectors, images])
@pytest.mark.parametrize("threads", [1, 3])
def test_slopes_of_parts_by_several_threads_are_those_of_the_whole(data, threads: int) -> None:
    network, x = data()
    noise, slopes = numbers(len(x), LATENTS), SlopesOfParts(network, 0.3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(3):
            found = slopes.put(pool.map(slopes.of, x.split(2), noise.split(2), [0.25] * 3))
            total = 0.25 * objective(network, x, noise, 0.3).sum()
            expected = torch.autograd.grad(total, list(network.parameters()))
            torch.testing.assert_close(found, total.detach(), rtol=1e-12, atol=0)
            for ours, theirs in zip(gradients(network), expected, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
            optimiser.step()


# --- Layers


def test_all_activations_have_their_pass() -> None:
    assert passes._ACTIVATIONS.keys() == ACTIVATIONS.keys()


WIDTHS = (7, 16, 9, 8)


def layers(activation: type[nn.Module]) -> nn.Sequential:
    """Of 7 inputs and two times 4 outputs; all weights have a `grad`."""
    parts = [(nn.Linear(a, b), activation()) for a, b in pairwise(WIDTHS)]
    network = nn.Sequential(*[layer for part in parts for layer in part][:-1]).double()
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    return network


def dense(network: nn.Sequential, activation: str, rows: int) -> Pass:
    scratch = Scratch(torch.zeros((), dtype=torch.float64), rows, max(WIDTHS))
    return DensePass(network, True, activation, rows, scratch)


@pytest.mark.parametrize("kind", ["dense", "autograd"])
@pytest.mark.parametrize(("name", "module"), [("silu", nn.SiLU), ("relu", nn.ReLU)])
def test_a_pass_gives_the_outputs_and_the_slopes_by_weights_and_input(
    kind: str, name: str, module: type[nn.Module]
) -> None:
    network = layers(module)
    there_and_back = (
        dense(network, name, ROWS) if kind == "dense" else AutogradPass(network, to_input=True)
    )
    for _ in range(2):
        x, of_output = numbers(ROWS, 7).requires_grad_(), numbers(ROWS, 8)
        output = network(x)
        expected = torch.autograd.grad((output * of_output).sum(), [x, *network.parameters()])
        for weight in network.parameters():
            weight.grad.zero_()
        with torch.no_grad():
            found = there_and_back.forward(x.detach())
            torch.testing.assert_close(torch.cat(found, dim=1), output.detach())
            of_x = there_and_back.backward(*of_output.chunk(2, dim=1), weight=0.5)
        torch.testing.assert_close(of_x, expected[0])
        for weight, slopes in zip(network.parameters(), expected[1:], strict=True):
            torch.testing.assert_close(weight.grad, 0.5 * slopes)
