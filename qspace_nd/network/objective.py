"""What training makes small, and its slopes by the weights."""

from __future__ import annotations

import torch
from torch import Tensor

from qspace_nd.network.vae import VAE


def objective(network: VAE, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """-log p(z)[x] + kl_weight KL(q(x)) of each row of `x` (n, C), where z ~ q(x): (n,).

    Kingma & Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), equation 10, with one
    sample, made of standard normal `noise` (n, d), and with the second term weighted.
    """
    posterior = network.encode(x)
    likelihood = network.decode(posterior.sample(noise))
    return kl_weight * posterior.kl().sum(-1) - likelihood.log_prob(x)


def slopes(network: VAE, kl_weight: float, x: Tensor, noise: Tensor) -> tuple[Tensor, ...]:
    """`objective`, summed over the rows of `x` (n, C): (), and its slopes by each weight.

    The weights are in the order of the network's `parameters`. Nothing in the network changes, so
    that threads may share it.
    """
    with torch.enable_grad():
        total = objective(network, x, noise, kl_weight).sum()
        return total.detach(), *torch.autograd.grad(total, list(network.parameters()))
