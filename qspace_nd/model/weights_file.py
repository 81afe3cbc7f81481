"""Weights in a file that may come from anybody: no network is built that they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from qspace_nd.arrays import squarable
from qspace_nd.errors import ModelError
from qspace_nd.network.image_vae import network_again
from qspace_nd.network.vae import VAE
from qspace_nd.system.hashing import hash_of_file


def read_weights(path: Path, settings: dict[str, Any]) -> VAE:
    """Build the network of these settings with the weights in a file, which is named by its hash.

    Raises
    ------
    ModelError
        The file was altered, or holds no weights or those of another network.
    """
    try:
        altered = hash_of_file(path) not in path.name
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check the file.") from error
    if altered:
        raise ModelError(f"{path} was altered after it was written; fit the model again.")
    try:
        found = _shapes_in(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} holds no weights ({error}); fit the model again.") from error
    if found != _shapes_of(settings, path):
        raise ModelError(
            f"{path} does not hold the weights of the network that model.json describes; fit the "
            f"model again."
        )
    weights = load_file(path)
    network = network_again(settings)
    # No value that a model is fitted on is larger; a comparison with NaN is false.
    limit = squarable(network.channels)
    if not all(bool((weight.abs() <= limit).all()) for weight in weights.values()):
        raise ModelError(
            f"{path} holds weights that no fit gives (NaN, infinity, or above {limit:.1g}); fit "
            f"the model again."
        )
    network.load_state_dict(weights)
    return network


def _shapes_in(path: Path) -> dict[str, tuple[str, list[int]]]:
    with safe_open(path, "pt") as weights:
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        return {name: (one.get_dtype(), one.get_shape()) for name, one in slices.items()}


def _shapes_of(settings: dict[str, Any], path: Path) -> dict[str, tuple[str, list[int]]]:
    """What the file is to hold, found without memory for it."""
    try:
        with torch.device("meta"):
            network = network_again(settings)
    except (RuntimeError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(
            f"{path.parent / 'model.json'} describes no network that can be built ({error}); fit "
            f"the model again."
        ) from error
    return {name: ("F32", [*weight.shape]) for name, weight in network.state_dict().items()}
