"""The convolutional variational autoencoder of images, and which network suits which data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from qspace_nd.network.recipes import is_table
from qspace_nd.network.table_vae import TableVAE
from qspace_nd.network.vae import ACTIVATIONS, VAE, VectorVAE, linear


class ImageVAE(VAE):
    """A convolutional VAE for images of K planes of H x W pixels, given as rows of K H W numbers.

    As in Vasilev et al. (arXiv 1806.02997), the encoder has filters of 3 x 3 pixels, stride 1 and
    zero padding, each layer with max-pooling by 2 after it; the decoder, its mirror, has transposed
    convolutions that double the size. All pixels of a plane have one shift and one scale, so that
    images in [0, 1] and in [0, 255] are the same to the network, and the decoder's Gaussian is in
    the units of the input.

    Parameters
    ----------
    shape : sequence of int
        (K, H, W).
    latents : int
        Number d of latent dimensions.
    hidden : sequence of int
        Numbers of filters of the encoder's layers, from the input on.
    activation : str
        A key of `ACTIVATIONS`.
    standardised : bool
        Without it the encoder sees the input as it is, whose shift and scale stay 0 and 1.
    """

    std_floor = 1.0
    """Of the pixels' standard deviation: the noise of unit variance of a squared error.

    Most pixels of a drawing are background, which a network reproduces exactly. With a lower floor
    their likelihood outweighs all else, and latents spend themselves on it.
    """

    block = 64  # a layer's output of which is a few MB

    def __init__(
        self,
        shape: Sequence[int],
        latents: int,
        hidden: Sequence[int],
        activation: str = "relu",
        standardised: bool = True,
    ) -> None:
        planes, height, width = shape
        settings = {
            "shape": [planes, height, width],
            "latents": latents,
            "hidden": list(hidden),
            "activation": activation,
            "standardised": standardised,
        }
        sizes = [(height, width)]
        for _ in hidden:
            sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
        down, up = [planes, *hidden], [*reversed(hidden), 2 * planes]
        encoder = nn.Sequential(
            nn.Unflatten(1, (planes, height, width)),
            *_down(down, activation),
            nn.Flatten(),
            linear(down[-1] * math.prod(sizes[-1]), 2 * latents),
        )
        decoder = nn.Sequential(
            linear(latents, up[0] * math.prod(sizes[-1])),
            nn.Unflatten(1, (up[0], *sizes[-1])),
            *_up(up, sizes[::-1], activation),
            nn.Flatten(),
        )
        super().__init__(settings, encoder, decoder, (planes, height, width), standardised)
        # A third faster on a CPU. (PyTorch does not declare the argument.)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def standardise(self, x: Tensor) -> None:
        """Take each plane's mean and standard deviation over all pixels of `x` (n, K H W).

        Quartiles would not do: most pixels of a drawing are background. The scale of a constant
        plane is 1.
        """
        planes = x.unflatten(1, (self.shape[0], -1)).double()
        std, mean = torch.std_mean(planes, dim=(0, 2), correction=0)
        std = torch.where(std <= 1e-6 * mean.abs(), 1.0, std)
        for buffer, values in ((self.shift, mean), (self.scale, std)):
            buffer.copy_(values.repeat_interleave(planes.shape[2]))


def _down(filters: Sequence[int], activation: str) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(filters):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.MaxPool2d(2, ceil_mode=True),
            ACTIVATIONS[activation](),  # after pooling it is the same, on a quarter of the pixels
        ]
    return layers


def _up(
    filters: Sequence[int], sizes: Sequence[tuple[int, int]], activation: str
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for (inputs, outputs), (height, width) in zip(pairwise(filters), sizes[1:], strict=True):
        even = (1 - height % 2, 1 - width % 2)
        layers += [
            ACTIVATIONS[activation](),
            nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=even),
        ]
    return layers


def network_for(
    shape: Sequence[int],
    latents: int,
    hidden: Sequence[int],
    activation: str,
    standardised: bool,
    *,
    few: bool = False,
) -> VAE:
    """Return the network for inputs of a shape: (C,) for vectors, (K, H, W) for images.

    For `few` vectors or small images, that of tables.
    """
    if few and is_table(shape):
        return TableVAE(shape, latents, hidden, activation, standardised)
    if len(shape) == 1:
        return VectorVAE(shape[0], latents, hidden, activation, standardised)
    return ImageVAE(shape, latents, hidden, activation, standardised)


def network_again(settings: dict[str, Any]) -> VAE:
    """Build a network from its `settings`."""
    kinds: dict[str, type[VAE]] = {"shape": ImageVAE, "row": TableVAE}
    kind = next((kind for key, kind in kinds.items() if key in settings), VectorVAE)
    return kind(**settings)
