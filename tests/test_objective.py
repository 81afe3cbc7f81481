from __future__ import annotations

import pytest
import torch
from torch import Tensor

from qspace_nd.objective import _Misfit, _Sample, objective
from qspace_nd.vae import VAE, VectorVAE

ROWS, CHANNELS, LATENTS = 5, 7, 3


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def outputs(width: int) -> Tensor:
    """Of a layer; the last logarithms of standard deviations are beyond their limit."""
    output = numbers(ROWS, 2 * width)
    output[0, -1], output[1, -1] = -20.0, -12.5
    return output.requires_grad_()


def test_the_derivatives_of_a_sample_and_its_divergence_are_right() -> None:
    noise = numbers(ROWS, LATENTS, seed=1)
    assert torch.autograd.gradcheck(_Sample.apply, (outputs(LATENTS), noise))


@pytest.mark.parametrize("floor", [0.01, 1.0])
def test_the_derivatives_of_the_misfit_are_right(floor: float) -> None:
    x = numbers(ROWS, CHANNELS, seed=1)
    assert torch.autograd.gradcheck(_Misfit.apply, (outputs(CHANNELS), x, floor))


@pytest.mark.parametrize("activation", ["silu", "relu"])
@pytest.mark.parametrize("standardised", [True, False])
def test_the_objective_and_its_gradient_are_those_of_the_gaussians(
    activation: str, standardised: bool
) -> None:
    torch.manual_seed(0)
    network = VectorVAE(CHANNELS, LATENTS, (16, 8), activation, standardised).double()
    x, noise = 3.0 + 2.0 * numbers(ROWS, CHANNELS), numbers(ROWS, LATENTS, seed=1)
    network.standardise(x.float())
    with torch.no_grad():
        network.encoder[-1].bias[-1] = 15.0
        network.decoder[-1].bias[-2:] = torch.tensor([15.0, -15.0])
    weights = torch.arange(1.0, ROWS + 1, dtype=torch.float64)

    def of_gaussians(network: VAE) -> Tensor:
        posterior = network.encode(x)
        likelihood = network.decode(posterior.sample(noise))
        return 0.3 * posterior.kl().sum(-1) - likelihood.log_prob(x)

    values, gradients = [], []
    for found in (objective(network, x, noise, 0.3), of_gaussians(network)):
        network.zero_grad()
        (found @ weights).backward()
        values.append(found.detach())
        gradients.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    torch.testing.assert_close(values[0], values[1], rtol=1e-12, atol=0)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)
