"""Weights whose name is their hash, and which are not those of the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from qspace_nd.errors import ModelError
from qspace_nd.model.weights_file import read_weights
from qspace_nd.network.vae import VAE, VectorVAE
from qspace_nd.system.hashing import hash_of


@pytest.fixture
def network() -> VAE:
    return VectorVAE(5, 2, (6,), "silu")


def signed(folder: Path, content: bytes) -> Path:
    path = folder / f"weights-{hash_of([content])}.safetensors"
    path.write_bytes(content)
    return path


def test_the_networks_own_weights_are_read(network: VAE, tmp_path: Path) -> None:
    path = signed(tmp_path, save(network.state_dict()))
    found = read_weights(path, network.settings).state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in network.state_dict().items())


def spoiled(network: VAE, how: str) -> dict[str, Tensor]:
    weights = {name: weight.clone() for name, weight in network.state_dict().items()}
    name = next(iter(weights))
    changed: dict[str, Tensor] = {
        "shape": weights[name][:-1].clone(),
        "kind": weights[name].double(),
        "nan": weights[name] * torch.nan,
        "infinity": weights[name] / 0,
        "large": torch.full_like(weights[name], 1e30),
    }
    if how == "missing":
        del weights[name]
    elif how == "more":
        weights["another"] = torch.ones(3)
    else:
        weights[name] = changed[how]
    return weights


@pytest.mark.parametrize("how", ["shape", "kind", "nan", "infinity", "large", "missing", "more"])
def test_others_are_refused(network: VAE, tmp_path: Path, how: str) -> None:
    path = signed(tmp_path, save(spoiled(network, how)))
    with pytest.raises(ModelError, match=r"does not hold the weights|that no fit gives"):
        read_weights(path, network.settings)


@pytest.mark.parametrize("content", [b"", b"none", b"\xff" * 64], ids=["none", "few", "many"])
def test_what_are_no_weights_is_refused(network: VAE, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ModelError, match="holds no weights"):
        read_weights(signed(tmp_path, content), network.settings)


@pytest.mark.parametrize("change", [{"latents": 10**9}, {"hidden": [10**9, 10**9]}])
def test_no_memory_is_taken_for_a_network_that_is_not_there(
    network: VAE, tmp_path: Path, change: dict[str, Any]
) -> None:
    path = signed(tmp_path, save(network.state_dict()))
    with pytest.raises(ModelError, match=r"does not hold the weights|no network that can be built"):
        read_weights(path, network.settings | change)
