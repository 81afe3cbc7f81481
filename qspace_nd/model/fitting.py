"""Training a network on healthy voxels: by which recipe, on which rows."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from qspace_nd.errors import ArrayError
from qspace_nd.model.rows import Healthy, Piece, collect, draw, hold_out, spread
from qspace_nd.network.history import History
from qspace_nd.network.image_vae import network_for
from qspace_nd.network.recipes import (
    FEW,
    IMAGE_PRESETS,
    LATENTS,
    MOST_COLUMNS,
    OF_FEW_IMAGES,
    OF_TABLES,
    PRESETS,
    Recipe,
    is_table,
)
from qspace_nd.network.table_vae import directions
from qspace_nd.network.training import STANDARDISED_ROWS, VALIDATION_ROWS, train
from qspace_nd.network.vae import VAE
from qspace_nd.progress import Progress
from qspace_nd.system.machine import Machine, find_device
from qspace_nd.system.memory import remaining

_log = logging.getLogger(__name__)

_ROW_BYTES = 32  # of a row's number and of its place in an epoch's order, while it is made
_LEAST = {"latents": 1, "neighbours": 1, "kl_weight": 0.0, "epochs": 1, "seed": 0}


class Settings(Protocol):
    """The settings of `NoveltyModel` that decide how its network is trained."""

    latents: int | None
    hidden: Sequence[int] | None
    kl_weight: float | None
    epochs: int | None
    validation: float
    neighbours: int | None
    preset: str
    seed: int


def are_few(settings: Settings, rows: int, shape: tuple[int, ...]) -> bool:
    """Tell whether so many rows of a shape, which are of no scans, have the recipe of few rows.

    Where settings name the paper's preset or say what the network is like, that holds.
    """
    silent = settings.latents is None and settings.hidden is None and settings.preset == "default"
    return silent and rows <= FEW and math.prod(shape) <= MOST_COLUMNS


def recipe_of(settings: Settings, shape: tuple[int, ...], few: bool = False) -> Recipe:
    """Return the preset's recipe, with what settings have in its place.

    Parameters
    ----------
    settings : Settings
        Those of a model.
    shape : tuple of int
        Of one row: (C,), or that of images.
    few : bool
        Whether rows are few (`are_few`).

    Raises
    ------
    ArrayError
        A setting is out of range.
    """
    presets = _presets(shape, few)
    if settings.preset not in presets:
        raise ArrayError(f"No preset is called {settings.preset!r}, only {', '.join(presets)}.")
    for name, least in _LEAST.items():
        value = getattr(settings, name)
        if value is not None and not value >= least:
            raise ArrayError(f"{name} is {value}; {least} or more is wanted.")
    if settings.kl_weight == math.inf:
        raise ArrayError("kl_weight is inf; a number is wanted.")
    if not 0.0 < settings.validation < 1.0:
        raise ArrayError(f"validation is {settings.validation}; a share between 0 and 1 is wanted.")
    recipe = presets[settings.preset]
    return recipe if settings.kl_weight is None else replace(recipe, kl_weight=settings.kl_weight)


def widths_of(settings: Settings, shape: tuple[int, ...], few: bool = False) -> Sequence[int]:
    """Return the widths of the encoder's hidden layers; parameters as of `recipe_of`.

    Raises
    ------
    ArrayError
        One is less than 1, or the preset has none for so many latents.
    """
    if settings.hidden is not None:
        if min(settings.hidden, default=1) < 1:
            raise ArrayError(f"hidden is {settings.hidden}; widths of 1 or more are wanted.")
        return settings.hidden
    widths = _presets(shape, few)[settings.preset].hidden
    if isinstance(widths, tuple):
        return widths
    latents = LATENTS if settings.latents is None else settings.latents
    if latents not in widths:
        raise ArrayError(
            f"The preset {settings.preset} knows no hidden widths for {latents} latents, "
            f"only for {', '.join(map(str, widths))}; name them, as in hidden=(64, 32, 16)."
        )
    return widths[latents]


def fit_network(
    settings: Settings,
    healthy: Sequence[Healthy],
    shape: tuple[int, ...],
    machine: Machine,
    progress: Progress,
    *,
    few: bool = False,
) -> tuple[VAE, History]:
    """Train a network on healthy voxels, or on as many as training looks at and memory holds.

    Parameters
    ----------
    settings : Settings
        Those of the model.
    healthy : sequence of Healthy
        The voxels of each scan, normalised.
    shape : tuple of int
        Of one row: (C,), or that of images.
    machine : Machine
        Where to train, and the memory that the process may use.
    progress : Progress
        Told of every look at the validation loss.
    few : bool
        Whether rows are few (`are_few`).

    Returns
    -------
    VAE, History
        The trained network, whose weights take no more slopes; and what training showed.

    Raises
    ------
    ArrayError
        A setting is out of range.
    """
    recipe, hidden = recipe_of(settings, shape, few), widths_of(settings, shape, few)
    device = find_device(machine.device)
    training, validation = hold_out(healthy, settings.validation, settings.seed)
    if settings.epochs is not None:
        batches = max(1, sum(map(len, training)) // recipe.batch_size)
        recipe = replace(recipe, steps=min(recipe.steps, settings.epochs * batches))
    with progress.task("Drawing voxels to train on", 1) as task:
        x, number = _gather(training, validation, recipe, settings.seed, machine.memory)
        task.advance()
    latents = _latents(settings, recipe, x[:number])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = network_for(
            shape, latents, hidden, recipe.activation, recipe.standardise, few=few
        )
    rows = torch.arange(len(x), device=device)
    history = train(
        network.to(device),
        x.to(device),
        rows[:number],
        rows[number:],
        recipe,
        seed=settings.seed,
        progress=progress,
    )
    return network.eval().requires_grad_(False), history


def _latents(settings: Settings, recipe: Recipe, x: Tensor) -> int:
    """How many latents a network has that learns from rows `x` (n, C)."""
    if settings.latents is not None:
        return settings.latents
    return LATENTS if recipe.variance is None else directions(x, recipe.variance)


def _presets(shape: tuple[int, ...], few: bool) -> Mapping[str, Recipe]:
    """The recipes for vectors, of shape (C,), or for images; if `few`, for few of them."""
    presets = PRESETS if len(shape) == 1 else IMAGE_PRESETS
    if not few:
        return presets
    return presets | {"default": OF_TABLES if is_table(shape) else OF_FEW_IMAGES}


def _gather(
    training: Sequence[Piece],
    validation: Sequence[Piece],
    recipe: Recipe,
    seed: int,
    memory: int | None,
) -> tuple[Tensor, int]:
    """Rows to train on and then rows to validate by, (n, C); and the number of the former."""
    channels = training[0].rows.shape[1]
    drawn = draw(training, _most_rows(training, recipe, channels, memory), seed)
    chosen = spread(validation, VALIDATION_ROWS)
    number = sum(map(len, drawn))
    x = np.empty((number + sum(map(len, chosen)), channels), np.float32)
    end = 0
    for some in chain(collect(training, drawn), collect(validation, chosen)):
        x[end : end + len(some)] = some
        end += len(some)
    return torch.from_numpy(x), number


def _most_rows(training: Sequence[Piece], recipe: Recipe, channels: int, memory: int | None) -> int:
    """How many rows to train on: as many as training looks at, where memory holds them."""
    rows = sum(map(len, training))
    wanted = min(rows, max(recipe.steps * recipe.batch_size, STANDARDISED_ROWS))
    # The shifts and scales are found on copies of some of the rows.
    row, copies = 4 * channels + _ROW_BYTES, 3 * 4 * channels
    left = remaining(memory)
    held = max(left // (row + copies), (left - copies * STANDARDISED_ROWS) // row)
    if held >= wanted:
        return wanted
    least = min(max(held, recipe.batch_size), wanted)
    _log.warning(
        f"Memory holds {least:,} of the {wanted:,} voxels that training would look at, drawn from "
        f"{rows:,}: with more memory (--memory) the model would be another."
    )
    return least
