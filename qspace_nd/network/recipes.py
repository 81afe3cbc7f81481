"""How networks are trained: the recipes by name, of vectors and of images, and of few rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

PAPER_HIDDEN = {8: (64, 32, 16), 16: (128, 64, 32), 24: (128, 64, 48)}
"""Widths of the hidden layers for each number of latents in the paper (section 3.1)."""

LATENTS = 8
"""Latents where nothing else is said."""


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, and how many neighbours novelty is told by.

    Attributes
    ----------
    hidden : tuple of int, or a mapping of the number of latents to one
        Widths of the encoder's hidden layers.
    kl_weight : float
        Weight of the Kullback-Leibler term of the objective; 1 is the evidence lower bound.
    batch_size : int
        Voxels of a step.
    rate : float
        Learning rate of Adam; the highest one where `one_cycle` is set.
    steps : int
        The most steps that training takes.
    check_every : int
        Steps between two looks at the validation loss.
    patience : int or None
        Looks without a better validation loss after which training ends; None for never.
    one_cycle : bool
        Raise the rate to `rate` and lower it to nearly 0 over the budget of steps
        (Smith & Topin, arXiv 1708.07120), rather than keep it constant.
    standardise : bool
        Standardise the channels inside the network.
    activation : str
        The networks' non-linearity.
    gradient_norm : float
        Norm that gradients are clipped to; `inf` for no clipping.
    gain_jitter : float
        Standard deviation of the logarithm of a random gain, another for each voxel of a batch. A
        scan of another person lies a little beside the training scans, and lesions more so: a
        network that has seen gains around those of the training scans places both smoothly.
    neighbours : int
        The nearest healthy voxels that distances to the nearest are the mean to.
    variance : float or None
        The share of the rows' variance whose principal components are counted to be the latents,
        where no number is said; None for `LATENTS`.
    """

    hidden: Mapping[int, tuple[int, ...]] | tuple[int, ...]
    kl_weight: float
    batch_size: int
    rate: float
    steps: int
    check_every: int
    patience: int | None
    one_cycle: bool
    standardise: bool
    activation: str
    gradient_norm: float
    gain_jitter: float
    neighbours: int
    variance: float | None = None


PRESETS = {
    "default": Recipe(
        hidden=(256, 128, 64),
        kl_weight=0.01,
        batch_size=1024,
        rate=4e-3,
        steps=3000,
        check_every=100,
        patience=None,
        one_cycle=True,
        standardise=True,
        activation="silu",
        gradient_norm=100.0,
        gain_jitter=0.1,
        neighbours=10,
    ),
    "paper": Recipe(
        hidden=PAPER_HIDDEN,
        kl_weight=1.0,
        batch_size=32_768,
        rate=1e-3,
        steps=5000,
        check_every=25,
        patience=20,
        one_cycle=False,
        standardise=False,
        activation="relu",
        gradient_norm=math.inf,
        gain_jitter=0.0,
        neighbours=1,
    ),
}
"""The recipes by name; "paper" is that of Vasilev et al., section 3.1."""

IMAGE_PRESETS = {
    "default": Recipe(
        hidden=(8, 16, 32),
        kl_weight=0.1,
        batch_size=128,
        rate=3e-3,
        steps=1000,
        check_every=100,
        patience=None,
        one_cycle=True,
        standardise=True,
        activation="relu",
        gradient_norm=100.0,
        gain_jitter=0.0,
        neighbours=1,
    ),
    "paper": Recipe(
        hidden=(8, 16, 32),
        kl_weight=1.0,
        batch_size=64,
        rate=1e-5,
        steps=200_000,
        check_every=1000,
        patience=20,
        one_cycle=False,
        standardise=True,
        activation="relu",
        gradient_norm=math.inf,
        gain_jitter=0.0,
        neighbours=1,
    ),
}
"""The recipes for images, `hidden` being numbers of filters.

"paper" has its optimiser, batches and rate; the numbers of filters and of steps are ours.
"""

FEW, MOST_COLUMNS = 20_000, 1024
"""Rows and columns up to which an array is a table of few rows, or a set of few images."""

LEAST_SIDE = 12
"""Pixels of an image's shorter side, below which few images are a table."""

OF_TABLES = Recipe(
    hidden=(128, 64),
    kl_weight=1e-4,
    batch_size=128,
    rate=1e-3,
    steps=500,
    check_every=25,
    patience=8,
    one_cycle=False,
    standardise=True,
    activation="silu",
    gradient_norm=100.0,
    gain_jitter=0.0,
    neighbours=1,
    variance=0.9999,
)
"""The recipe of few rows that are of no scans.

Their columns are no signals, which one gain would multiply; and so few are soon known by heart:
training ends when held-out rows gain no more.
"""

OF_FEW_IMAGES = replace(IMAGE_PRESETS["default"], hidden=(16, 32), steps=600, variance=0.8)
"""The recipe of few images, but for small ones."""


def is_table(shape: Sequence[int]) -> bool:
    """Tell whether few rows of a shape, (C,) or (K, H, W), are learnt as a table."""
    return len(shape) == 1 or min(shape[1:]) < LEAST_SIDE
