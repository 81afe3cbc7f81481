"""The search tree that is kept with a model: it serves as one that is built, or not at all."""

from __future__ import annotations

import errno
import logging
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from qspace_nd.errors import WorkError
from qspace_nd.gaussian import Gaussian
from qspace_nd.model import index_file
from qspace_nd.model.index_file import NAME, keep_tree, take_tree
from qspace_nd.network.vae import VectorVAE
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Views
from qspace_nd.searching.nearest import NearestNeighbours
from qspace_nd.searching.tree import PointTree


def reference_of(latents: int, kept: Path | None = None) -> Reference:
    network = VectorVAE(3, latents, (4,), "silu").eval().requires_grad_(False)
    parts = []
    for number, (subject, voxels) in enumerate([("a", 900), ("b", 1500), ("a", 77)]):
        generator = torch.Generator().manual_seed(number)
        mean = torch.randn(voxels, latents, generator=generator)
        views = Views(network, torch.ones(voxels, 3), Gaussian(mean, torch.ones_like(mean)))
        parts.append(Part(subject, partial(lambda one: one, views)))
    if kept is None:
        return Reference(parts)
    return Reference(parts, kept=partial(take_tree, kept, "source", 2477, latents))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "LEAST", 1000)
    monkeypatch.setattr(index_file, "_ROWS", 100)


@pytest.mark.parametrize("latents", [3, 8, 12])
def test_a_tree_that_was_kept_finds_what_one_that_is_built_does(
    latents: int, tmp_path: Path
) -> None:
    built = reference_of(latents)
    keep_tree(tmp_path, built, "source", None)
    kept = reference_of(latents, tmp_path)
    queries = np.random.default_rng(0).normal(size=(200, latents)).astype(np.float32)
    assert kept.is_built("q_bar", NearestNeighbours)
    np.testing.assert_array_equal(
        kept.nearest("q_bar").distances(queries, 10), built.nearest("q_bar").distances(queries, 10)
    )
    for subject in "ab":
        np.testing.assert_array_equal(
            *(one.without(subject).nearest("q_bar").distances(queries, 10) for one in (kept, built))
        )


def test_it_does_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    threads, written = torch.get_num_threads(), []
    for number in (1, 2):
        torch.set_num_threads(number)
        keep_tree(tmp_path, reference_of(8), "source", None)
        written.append((tmp_path / NAME).read_bytes())
    torch.set_num_threads(threads)
    assert written[0] == written[1]


def test_that_of_another_reference_does_not_serve(tmp_path: Path) -> None:
    keep_tree(tmp_path, reference_of(8), "another", None)
    assert not reference_of(8, tmp_path).is_built("q_bar", NearestNeighbours)


@pytest.mark.parametrize("place", [-1, 5000, 300, 12])
def test_one_that_was_altered_is_told_of_and_does_not_serve(
    place: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keep_tree(tmp_path, reference_of(8), "source", None)
    content = bytearray((tmp_path / NAME).read_bytes())
    content[place] ^= 255
    (tmp_path / NAME).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert take_tree(tmp_path, "source", 2477, 8) is None
    assert "was altered after it was written: a search tree is built in its place" in caplog.text


def test_half_a_file_does_not_serve(tmp_path: Path) -> None:
    keep_tree(tmp_path, reference_of(8), "source", None)
    content = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(content[: len(content) // 2])
    assert take_tree(tmp_path, "source", 2477, 8) is None


def test_one_that_memory_does_not_hold_is_built_on_the_disk_and_is_the_same(tmp_path: Path) -> None:
    written = []
    for memory in (None, 1):
        keep_tree(tmp_path, reference_of(8), "source", memory)
        written.append((tmp_path / NAME).read_bytes())
    assert written[0] == written[1]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def test_a_full_disk_is_told_of_and_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    with pytest.raises(WorkError, match=r"could not be written \(No space left on device\)"):
        keep_tree(tmp_path, reference_of(8), "source", 1)
    assert not list(tmp_path.iterdir())


def test_a_small_one_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep_tree(tmp_path, reference_of(8), "source", None)
    monkeypatch.setattr(index_file, "LEAST", 10_000)
    keep_tree(tmp_path, reference_of(8), "source", None)
    assert not (tmp_path / NAME).exists()  # nor is the one that was there


def test_another_number_of_points_is_refused() -> None:
    tree = PointTree(np.random.default_rng(0).normal(size=(500, 8)).astype(np.float32))
    with pytest.raises(ValueError, match="not those of a tree"):
        PointTree.from_arrays(tree.to_arrays(), 501, 8)
    with pytest.raises(ValueError, match="not those of a tree"):
        PointTree.from_arrays(tree.to_arrays(), 500, 9)
