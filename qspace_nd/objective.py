"""What training makes small, and its slopes by the weights."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from qspace_nd.passes import AutogradPass, DensePass, Pass, Scratch
from qspace_nd.vae import LOG_STD_LIMIT, VAE, VectorVAE

_HALF_LOG_2_PI = 0.5 * math.log(2.0 * math.pi)
_aten: Any = torch.ops.aten


def objective(network: VAE, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
    """-log p(z)[x] + kl_weight KL(q(x)) of each row of `x` (n, C), where z ~ q(x): (n,).

    Kingma & Welling, "Auto-Encoding Variational Bayes" (arXiv 1312.6114), equation 10, with one
    sample, made of standard normal `noise` (n, d), and with the second term weighted.
    """
    posterior = network.encode(x)
    likelihood = network.decode(posterior.sample(noise))
    return kl_weight * posterior.kl().sum(-1) - likelihood.log_prob(x)


class Slopes:
    """Slopes of `objective` by the weights of a network, added to each weight's `grad`.

    The derivatives of the objective are written out, and so are those of fully connected layers:
    PyTorch's automatic ones pass over the numbers far more often. Each `grad` begins as 0; it and
    its weight have to stay where they are in memory.

    Parameters
    ----------
    network : VAE
        What is trained, standardised already.
    kl_weight : float
        Weight of the objective's second term.
    """

    def __init__(self, network: VAE, kl_weight: float) -> None:
        for weight in network.parameters():
            weight.grad = torch.zeros_like(weight)
        self._network, self._kl_weight = network, kl_weight
        self._of_rows: dict[int, _SlopesOfRows] = {}  # by their number

    @torch.no_grad()
    def add(self, x: Tensor, noise: Tensor, weight: float) -> Tensor:
        """Add the slopes of `weight` times the objective, summed over rows, and return that: ().

        The rows are `x` (n, C), their noise is (n, d).
        """
        rows = len(x)
        if rows not in self._of_rows:
            self._of_rows[rows] = _SlopesOfRows(self._network, self._kl_weight, rows)
        return self._of_rows[rows].add(x, noise, weight)


Found = tuple[Tensor, list[Tensor]]
"""The objective, summed over the rows of a part and weighted, and its slopes by each weight."""


class SlopesOfParts:
    """Slopes of `objective` over a batch whose parts are shared out among threads.

    Those of each part are found by themselves, and added up in the order of the parts: they are
    the same to the last bit whatever the number of threads.

    Parameters
    ----------
    network, kl_weight
        See `Slopes`.
    """

    def __init__(self, network: VAE, kl_weight: float) -> None:
        for weight in network.parameters():
            weight.grad = torch.zeros_like(weight)
        self._network, self._kl_weight = network, kl_weight
        self._own = threading.local()  # each thread's copy of the network, and slopes by it

    @torch.no_grad()
    def of(self, x: Tensor, noise: Tensor, weight: float) -> Found:
        """Find the slopes of a part, in any thread; the parameters are those of `Slopes.add`."""
        if not hasattr(self._own, "slopes"):
            self._own.network = _with_the_weights_of(self._network)
            self._own.slopes = Slopes(self._own.network, self._kl_weight)
        gradients = [_gradient(one) for one in self._own.network.parameters()]
        for gradient in gradients:
            gradient.zero_()
        total = self._own.slopes.add(x, noise, weight)
        return total, [gradient.clone() for gradient in gradients]

    @torch.no_grad()
    def put(self, parts: Iterable[Found]) -> Tensor:
        """Put the sum of the slopes into each weight's `grad`; return that of the objective: ()."""
        first, *others = parts
        gradients = [_gradient(weight) for weight in self._network.parameters()]
        total = first[0].clone()
        for gradient, slopes in zip(gradients, first[1], strict=True):
            gradient.copy_(slopes)
        for more, slopes_of_part in others:
            total += more
            for gradient, slopes in zip(gradients, slopes_of_part, strict=True):
                gradient.add_(slopes)
        return total


def _with_the_weights_of(network: VAE) -> VAE:
    """A copy of the network that has the same weights in memory, and slopes of its own."""
    twin = copy.deepcopy(network)
    for own, shared in zip(twin.parameters(), network.parameters(), strict=True):
        own.data = shared.data
    return twin


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad


class _SlopesOfRows:
    """The slopes of batches of n rows, with memory for them."""

    def __init__(self, network: VAE, kl_weight: float, rows: int) -> None:
        self._network, self._kl_weight = network, kl_weight
        channels, latents = network.channels, network.latents
        new = network.shift.new_empty
        scratch = Scratch(network.shift, rows, max(channels, latents, *network.settings["hidden"]))
        self._encoder, self._decoder = _passes(network, rows, scratch)
        self._std, self._z = new(rows, latents), new(rows, latents)
        self._share = new(rows, channels)
        self._precision, self._squared = (scratch.array(i, channels) for i in range(2))
        # The sum of the objective: these, and the sums found on the way, each times its factor.
        constants = rows * (channels * _HALF_LOG_2_PI + network.scale.log().sum())
        self._constants = constants - 0.5 * kl_weight * rows * latents
        factors = (0.5, -1.0, 0.5 * kl_weight, 0.5 * kl_weight, -kl_weight)
        self._factors = network.shift.new_tensor(factors)

    def add(self, x: Tensor, noise: Tensor, weight: float) -> Tensor:
        """See `Slopes`.

        Of the objective's second term, sum (m² + s² - 1) / 2 - log s, and of z = m + s noise, whose
        slopes are u (n, d), the slopes by the encoder's m and log s are, with k the term's weight,

            u + k m    and    u s noise + k (s² - 1),

        the latter 0 where log s is at its limit.
        """
        target = self._network.standard(x)
        mean, log_std = self._encoder.forward(self._network.inputs(target))
        std = torch.exp(_limit(log_std), out=self._std)
        z = torch.addcmul(mean, std, noise, out=self._z)
        divergences = [_squares(mean), _squares(std), log_std.sum()]
        misfits, slopes = self._misfit(*self._decoder.forward(z), target)
        of_z = self._decoder.backward(*slopes, weight)
        of_log_std = torch.mul(of_z, noise, out=z).mul_(std)
        of_log_std.add_(std.square_().sub_(1.0), alpha=self._kl_weight)
        of_mean = mean.mul_(self._kl_weight).add_(of_z)
        _zero_at_limit(of_log_std, log_std)
        self._encoder.backward(of_mean, of_log_std, weight)
        total = torch.dot(torch.stack([*misfits, *divergences]), self._factors) + self._constants
        return weight * total

    def _misfit(
        self, mean: Tensor, log_std: Tensor, x: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The sums of t² and of -log s, t = (m - x) / s and s = f + e^l, and slopes by m and l.

        `x` (n, C) is the target, f the floor of the standard deviation. The slopes (n, C) of
        t² / 2 + log s are

            t / s    and    (1 - t²) e^l / s,

        the latter 0 where l is at its limit. The means m and the l are overwritten.
        """
        share = torch.exp(_limit(log_std), out=self._share)
        precision = torch.add(share, self._network.std_floor, out=self._precision).reciprocal_()
        share.mul_(precision)
        distance = mean.sub_(x).mul_(precision)
        squares = _squares(distance)
        squared = torch.square(distance, out=self._squared)
        of_log_std = torch.addcmul(share, squared, share, value=-1.0, out=share)
        of_mean = distance.mul_(precision)
        _zero_at_limit(of_log_std, log_std)
        return (squares, precision.log_().sum()), (of_mean, of_log_std)


def _passes(network: VAE, rows: int, scratch: Scratch) -> tuple[Pass, Pass]:
    """Passes through the encoder, and through the decoder and back to its input."""
    if not isinstance(network, VectorVAE):
        return AutogradPass(network.encoder, False), AutogradPass(network.decoder, True)
    activation = network.settings["activation"]
    return (
        DensePass(network.encoder, False, activation, rows, scratch),
        DensePass(network.decoder, True, activation, rows, scratch),
    )


def _limit(log_std: Tensor) -> Tensor:
    return log_std.clamp_(-LOG_STD_LIMIT, LOG_STD_LIMIT)


def _zero_at_limit(slopes: Tensor, log_std: Tensor) -> None:
    """Put slopes by limited logarithms of standard deviations to 0 where the limit is reached."""
    limit = LOG_STD_LIMIT
    _aten.hardtanh_backward.grad_input(slopes, log_std, -limit, limit, grad_input=slopes)


def _squares(values: Tensor) -> Tensor:
    """The sum of squares: ()."""
    flat = values.view(-1)
    return torch.dot(flat, flat)
