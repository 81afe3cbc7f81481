"""The variational autoencoder of few rows, which begins as principal components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from qspace_nd.network.vae import ACTIVATIONS, VAE, linear

_BEGINNING = -2.0  # of the logarithms of standard deviations


class TableVAE(VAE):
    """A VAE for rows of a table, whose encoder and decoder are each a linear map and a network.

    Few rows do not teach a network of random weights where they lie. So `standardise` sets the
    linear maps to the rows' leading principal components, and the hidden layers begin with nothing
    to say: before training, distances of latents are those of the rows, but for the directions in
    which they hardly vary. What is not linear is learnt on top.

    All columns share one scale: as for nearest neighbours, what a column weighs is the user's.

    Parameters
    ----------
    row : sequence of int
        Shape of one row: (C,), or that of small images, whose pixels are the columns.
    latents : int
        Number d of latent dimensions.
    hidden : sequence of int
        Widths of the encoder's hidden layers, from the input on.
    activation : str
        A key of `ACTIVATIONS`.
    standardised : bool
        Without it the encoder sees the input as it is, and the linear maps begin at 0.
    """

    std_floor = 1.0
    """Of the scale: the noise of unit variance of a squared error.

    With a lower one, a column that few rows let a network reproduce outweighs all the others.
    """

    def __init__(
        self,
        row: Sequence[int],
        latents: int,
        hidden: Sequence[int],
        activation: str = "silu",
        standardised: bool = True,
    ) -> None:
        columns = math.prod(row)
        settings = {
            "row": list(row),
            "latents": latents,
            "hidden": list(hidden),
            "activation": activation,
            "standardised": standardised,
        }
        encoder = nn.Sequential(_Sum([columns, *hidden, 2 * latents], activation))
        decoder = nn.Sequential(_Sum([latents, *reversed(hidden), 2 * columns], activation))
        super().__init__(settings, encoder, decoder, tuple(row), standardised)

    def standardise(self, x: Tensor) -> None:
        """Take the columns' means and one scale from `x` (n, C); begin at principal components.

        The scale is the root of the columns' mean variance, and 1 where nothing varies.
        """
        mean, covariance = _moments(x)
        scale = covariance.trace().div(len(mean)).sqrt()
        scale = torch.where(scale <= 1e-6 * mean.abs().mean(), 1.0, scale)
        self.shift.copy_(mean)
        self.scale.copy_(scale.expand(len(mean)))
        axes = torch.linalg.eigh(covariance).eigenvectors.flip(1)[:, : self.latents]  # (C, d)
        largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
        axes = axes * largest.sign()  # whose sign is free
        for part, weight in ((self.encoder, axes.T), (self.decoder, axes)):
            cast(_Sum, part[0]).begin(weight)


class _Sum(nn.Module):
    """A linear map and a network of hidden layers, whose outputs are added up.

    Both begin at 0, but for the logarithms of standard deviations, the second half of the outputs.
    """

    def __init__(self, widths: Sequence[int], activation: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(widths):
            layers += [linear(inputs, outputs), ACTIVATIONS[activation]()]
        self.straight = linear(widths[0], widths[-1])
        self.curved = nn.Sequential(*layers[:-1])
        for one in (*self.straight.parameters(), *self.curved[-1].parameters()):
            nn.init.zeros_(one)
        nn.init.constant_(self.straight.bias[widths[-1] // 2 :], _BEGINNING)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.straight(x) + self.curved(x))

    @torch.no_grad()
    def begin(self, weight: Tensor) -> None:
        """Let the means be the product with `weight` (outputs, inputs)."""
        self.straight.weight[: weight.shape[0], : weight.shape[1]].copy_(weight)


def directions(x: Tensor, share: float) -> int:
    """How many principal components carry a share of the variance of rows `x` (n, C); 1 or more."""
    variances = torch.linalg.eigvalsh(_moments(x)[1]).flip(0).clamp_min(0).cumsum(0)
    enough = variances >= share * variances[-1]
    return int(enough.int().argmax()) + 1


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean (C,) and the covariance (C, C) of rows (n, C), in double precision on the CPU."""
    rows = x.cpu().double()
    mean = rows.mean(0)
    rows = rows - mean
    return mean, rows.T @ rows / len(rows)
