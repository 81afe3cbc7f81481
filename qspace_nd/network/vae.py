"""The variational autoencoder: networks whose `encode` and `decode` return Gaussians."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qspace_nd.gaussian import Gaussian
from qspace_nd.network.blocks import BLOCK

STD_FLOOR = 0.01
"""Least standard deviation of the decoder, as a fraction of a channel's scale (see `standardise`).

Without a floor a channel that the network reproduces exactly, a constant one above all, drives its
likelihood to infinity and the other channels are forgotten.
"""

LOG_STD_LIMIT = 12.0
"""Largest size of a logarithm of a standard deviation: its exp, squared, fits float32."""

_QUARTILES_APART = 1.349  # of the unit Gaussian


ACTIVATIONS: dict[str, type[nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU}


class VAE(nn.Module, ABC):
    """An encoder and a decoder of rows of C numbers, whose shift and scale they know.

    `encode` and `decode` are all that the scores know of a network. Whatever shape the data has,
    here it is a row: an image is its pixels, plane by plane and line by line.

    Parameters
    ----------
    settings : dict
        What the network is built of, to build it again.
    encoder : nn.Sequential
        From (n, C) to means and logarithms of standard deviations, (n, 2 d).
    decoder : nn.Sequential
        From (n, d) to means and logarithms of standard deviations, (n, 2 C).
    shape : tuple of int
        Shape of one input; C is its product.
    standardised : bool
        Without it the encoder sees the input as it is, whose shift and scale stay 0 and 1.

    Attributes
    ----------
    std_floor : float
        Least standard deviation of the decoder, as a fraction of a channel's scale.
    block : int
        Rows that pass through at once where nothing is learnt.
    """

    shift: Tensor
    scale: Tensor
    std_floor = STD_FLOOR
    block = BLOCK

    def __init__(
        self,
        settings: dict[str, Any],
        encoder: nn.Sequential,
        decoder: nn.Sequential,
        shape: tuple[int, ...],
        standardised: bool,
    ) -> None:
        super().__init__()
        self.settings = settings
        self.shape = shape
        self.channels = math.prod(shape)
        self.latents = int(settings["latents"])
        self.standardised = standardised
        self.encoder = encoder
        self.decoder = decoder
        self.register_buffer("shift", torch.zeros(self.channels))
        self.register_buffer("scale", torch.ones(self.channels))

    @property
    def device(self) -> torch.device:
        """The device that the weights are on."""
        return self.shift.device

    @abstractmethod
    def standardise(self, x: Tensor) -> None:
        """Take the shift and the scale of each channel from `x` (n, C)."""

    def standard(self, x: Tensor) -> Tensor:
        """Rows `x` (n, C) in the units of the decoder's output, those of the channels: (n, C)."""
        return (x - self.shift) / self.scale if self.standardised else x

    def inputs(self, standard: Tensor) -> Tensor:
        """What the encoder sees of rows in these units (n, C): (n, C)."""
        return standard

    def encode(self, x: Tensor) -> Gaussian[Tensor]:
        """Posterior q(z|x) of rows `x` (n, C): a Gaussian of shape (n, d)."""
        mean, log_std = self.encoder(self.inputs(self.standard(x))).chunk(2, dim=-1)
        return Gaussian(mean, _std(log_std))

    def decode(self, z: Tensor) -> Gaussian[Tensor]:
        """Likelihood p(x|z) of latents `z` (n, d): a Gaussian of shape (n, C)."""
        return self.likelihood(self.decoder(z))

    def likelihood(self, decoded: Tensor) -> Gaussian[Tensor]:
        """Likelihood p(x|z) by what the decoder's layers return (n, 2 C): a Gaussian (n, C)."""
        mean, log_std = decoded.chunk(2, dim=-1)
        std = self.std_floor + _std(log_std)
        if not self.standardised:
            return Gaussian(mean, std)
        return Gaussian(mean * self.scale + self.shift, std * self.scale)


def _std(log_std: Tensor) -> Tensor:
    """Standard deviations by their logarithms, which are limited; slopes beyond the limit are 0."""
    # As `clamp` limits them, but with one pass over the slopes on the way back, not five.
    return functional.hardtanh(log_std, -LOG_STD_LIMIT, LOG_STD_LIMIT).exp()


class VectorVAE(VAE):
    """A fully connected VAE for vectors: C - hidden - latents and its mirror.

    Inputs are standardised inside the network by `shift` and `scale`, which are 0 and 1 until
    `standardise` sets them, and their far tails compressed: the encoder sees
    asinh((x - shift) / scale), linear over tissue and logarithmic over fluid, which would otherwise
    take up most of the latents' range. The decoder's Gaussian is in the units of the input.

    Parameters
    ----------
    channels : int
        Length C of an input vector.
    latents : int
        Number d of latent dimensions.
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the input on.
    activation : str
        A key of `ACTIVATIONS`.
    standardised : bool
        Without it the encoder sees the input as it is, whose shift and scale stay 0 and 1.
    """

    def __init__(
        self,
        channels: int,
        latents: int,
        hidden: Sequence[int],
        activation: str = "silu",
        standardised: bool = True,
    ) -> None:
        settings = {
            "channels": channels,
            "latents": latents,
            "hidden": list(hidden),
            "activation": activation,
            "standardised": standardised,
        }
        encoder = _layers([channels, *hidden, 2 * latents], activation)
        decoder = _layers([latents, *reversed(hidden), 2 * channels], activation)
        super().__init__(settings, encoder, decoder, (channels,), standardised)

    def standardise(self, x: Tensor) -> None:
        """Take each channel's median and quartiles over `x` (n, C) as its shift and scale.

        The scale is the standard deviation of a Gaussian with these quartiles. Moments would be
        set by fluid, few voxels but many times brighter than tissue, and tissue, where disease
        shows, would fill a small part of the scale. Where the quartiles are equal the scale is the
        standard deviation, and 1 where the channel is constant.
        """
        levels = torch.tensor([0.25, 0.5, 0.75], device=x.device)
        lower, median, upper = torch.stack([torch.quantile(c, levels) for c in x.T], dim=1)
        scale = (upper - lower) / _QUARTILES_APART
        for other in (x.std(0, correction=0), torch.ones_like(scale)):
            scale = torch.where(scale <= 1e-6 * x.abs().mean(0), other, scale)
        self.shift.copy_(median)
        self.scale.copy_(scale)

    def inputs(self, standard: Tensor) -> Tensor:
        """What the encoder sees of standardised rows (n, C), their tails compressed: (n, C)."""
        return _asinh(standard) if self.standardised else standard


def _asinh(x: Tensor) -> Tensor:
    """PyTorch's to the last digit or two, but several times as fast: all of it uses vectors.

    That of 1.7e38 for all larger numbers, whose sums would overflow.
    """
    size = x.abs().clamp_max(1.7e38)
    beyond = size / (torch.hypot(size, torch.ones_like(size[:1])) + 1.0)
    return (size * beyond + size).log1p().copysign(x)


_LEAST_INPUTS = 8  # from where MKL's products sum every row alike


class _NarrowLinear(nn.Linear):
    """A linear layer of few inputs that computes every row alike, wherever in a block it lies.

    On some processors MKL's product with 5 to 7 inputs sums a row by its place, and scores would
    differ in the last bits with the order of voxels: the inputs are filled up with zeros.
    """

    def forward(self, input: Tensor) -> Tensor:
        missing = _LEAST_INPUTS - self.in_features
        return functional.linear(
            functional.pad(input, (0, missing)),
            functional.pad(self.weight, (0, missing)),
            self.bias,
        )


def linear(inputs: int, outputs: int) -> nn.Linear:
    """Return a linear layer that computes every row alike."""
    return (nn.Linear if inputs >= _LEAST_INPUTS else _NarrowLinear)(inputs, outputs)


def _layers(widths: Sequence[int], activation: str) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [linear(inputs, outputs), ACTIVATIONS[activation]()]
    return nn.Sequential(*layers[:-1])
