"""What training makes small, with derivatives written out: a third of the passes over memory.

The networks of voxels are so narrow that products of matrices take less time than what is done to
each number. PyTorch's automatic derivatives of `Gaussian.log_prob` and `kl` pass over the numbers
about forty times; here the derivatives are found on the way forwards, where they cost little.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from qspace_nd.vae import LOG_STD_LIMIT, VAE

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)


def objective(network: VAE, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """-log p(z)[x] + kl_weight KL(q(x)) of each row of `x` (n, C), where z ~ q(x): (n,).

    Kingma & Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), equation 10, with one
    sample, made of standard normal `noise` (n, d), and with the second term weighted.

    The same as by `encode`, `decode`, `Gaussian.log_prob` and `Gaussian.kl`, but quicker.
    """
    output = network.encoder(network.inputs(x))
    z, kl = _Sample.apply(output, noise)  # type: ignore[no-untyped-call]
    target = (x - network.shift) / network.scale
    output = network.decoder(z)
    misfit = _Misfit.apply(output, target, network.std_floor)  # type: ignore[no-untyped-call]
    scaling: Tensor = network.scale.log().sum() + network.channels * _HALF_LOG_2_PI
    total: Tensor = misfit + kl_weight * kl + scaling
    return total


class _Sample(torch.autograd.Function):
    """z = m + s noise and KL = sum (m² + s² - 1) / 2 - log s, of `output` (n, 2d) = (m, log s).

    With slopes u of z (n, d) and v of KL (n,), those of m and of log s are

        u + v m    and    u s noise + v (s² - 1),

    the latter 0 where log s is beyond its limit.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, free = output.chunk(2, dim=-1)
        log_std = free.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
        std = log_std.exp()
        ctx.save_for_backward(mean, std, noise, log_std != free)
        kl = torch.addcmul(mean.square(), std, std).sub_(1.0).mul_(0.5).sub_(log_std).sum(-1)
        return torch.addcmul(mean, std, noise), kl

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_z: Tensor, of_kl: Tensor) -> tuple[Tensor, None]:
        mean, std, noise, limited = ctx.saved_tensors
        of_kl = of_kl[:, None]
        of_mean = torch.addcmul(of_z, of_kl, mean)
        of_log_std = std.square().sub_(1.0).mul_(of_kl).addcmul_(of_z * noise, std)
        return torch.cat([of_mean, of_log_std.masked_fill_(limited, 0.0)], dim=-1), None


class _Misfit(torch.autograd.Function):
    """sum t² / 2 + log s, where t = (m - x) / s and s = f + e^l, of `output` (n, 2C) = (m, l).

    `x` (n, C) is the target, f the floor of the standard deviation. The slopes of m and of l are

        t / s    and    (1 - t²) (1 - f / s),

    the latter 0 where l is beyond its limit.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, x: Tensor, floor: float) -> Tensor:
        mean, free = output.chunk(2, dim=-1)
        log_std = free.clamp(-LOG_STD_LIMIT, LOG_STD_LIMIT)
        limited = log_std != free
        std = log_std.exp_().add_(floor)
        misfit = std.log()
        precision = std.reciprocal_()
        distance = (mean - x).mul_(precision)
        slopes = torch.empty_like(output)
        of_mean, of_log_std = slopes.chunk(2, dim=-1)
        torch.mul(distance, precision, out=of_mean)
        squared = distance.square_()
        total = misfit.add_(squared, alpha=0.5).sum(-1)
        share = precision.mul_(-floor).add_(1.0).masked_fill_(limited, 0.0)
        torch.mul(squared.neg_().add_(1.0), share, out=of_log_std)
        ctx.save_for_backward(slopes)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return slopes * of_total[:, None], None, None
