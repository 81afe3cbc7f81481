from __future__ import annotations

import gc
import pickle
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from qspace_nd.errors import ModelError
from qspace_nd.gaussian import Gaussian
from qspace_nd.model import part_file
from qspace_nd.model.part_file import read_part, write_part
from qspace_nd.network.vae import VectorVAE
from qspace_nd.scores.reference import Part, Reference
from qspace_nd.scores.views import Views

ROWS, CHANNELS, LATENTS = 50, 5, 2
NETWORK = VectorVAE(CHANNELS, LATENTS, (4,), "silu").eval().requires_grad_(False)


def tensors() -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    return {
        "x": torch.rand(ROWS, CHANNELS, generator=random),
        "q_mean": torch.rand(ROWS, LATENTS, generator=random),
        "q_std": torch.rand(ROWS, LATENTS, generator=random),
    }


def part() -> Part:
    x, mean, std = tensors().values()
    return Part("ann", lambda: Views(NETWORK, x, Gaussian(mean, std)))


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """The file and the record of a part."""
    record = write_part(tmp_path, part())
    return tmp_path / record["file"], record


def read(path: Path, record: dict[str, Any]) -> Part:
    return read_part(path.parent, record, NETWORK)


@pytest.mark.parametrize("rows", [slice(None), slice(7, 13), slice(49, 60), slice(3, 3)])
def test_rows_are_the_same_bits_in_whole_and_in_part(rows: slice, written: Any) -> None:
    found, given = read(*written).views[rows], part().views[rows]
    assert len(found) == len(given)
    for ours, theirs in [
        (found.x, given.x),
        (found.q.mean, given.q.mean),
        (found.q.std, given.q.std),
        (found.p.mean, given.p.mean),
    ]:
        assert torch.equal(ours, theirs)
        assert ours.shape == theirs.shape


def test_a_piece_of_a_piece_is_that_of_the_whole(written: Any) -> None:
    assert torch.equal(read(*written).views[10:40][5:9].x, tensors()["x"][15:19])


def test_a_file_is_named_by_its_content(written: Any, tmp_path: Path) -> None:
    path, record = written
    assert write_part(tmp_path / "again", part()) == record
    assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    x = tensors()["x"]
    other = Part("ann", lambda: Views(NETWORK, -x, Gaussian(x[:, :LATENTS], x[:, :LATENTS])))
    assert write_part(tmp_path, other)["file"] != path.name


def test_anyone_can_read_the_file_with_safetensors(written: Any) -> None:
    found = load_file(written[0])
    assert found.keys() == tensors().keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors().items())


def test_what_is_written_to_rows_stays_in_memory(written: Any) -> None:
    before = written[0].read_bytes()
    views = read(*written).views
    views.x[:] = 99.0
    views.q.mean[:] = 99.0
    assert written[0].read_bytes() == before


def test_nothing_is_read_to_tell_how_many_voxels_there_are(written: Any) -> None:
    written[0].write_bytes(b"")
    found = read(*written)
    assert len(found) == len(found.views[:]) == ROWS
    assert [len(piece) for piece in Reference([found]).blocks(7)] == [ROWS]
    with pytest.raises(ModelError, match=r"cannot be read .*another fit has replaced the model"):
        found.views.x  # noqa: B018


def test_an_array_is_hashed_once_when_it_is_looked_at_first(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []
    hash_of = part_file._hash_of

    def listen(pieces: Any, number: int) -> str:
        pieces = list(pieces)
        hashed.append(pieces[0].shape[1])
        return hash_of(pieces, number)

    monkeypatch.setattr(part_file, "_hash_of", listen)
    found = read(*written)
    assert hashed == []
    for start in (0, 20):
        found.views[start:].q  # noqa: B018
    assert hashed == [LATENTS, LATENTS]
    for start in (0, 20):
        found.views[start:].x  # noqa: B018
    assert hashed == [LATENTS, LATENTS, CHANNELS]


def test_a_hash_does_not_depend_on_the_pieces_that_are_looked_at(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file, "ROWS", 7)
    views = read(*written).views
    assert torch.equal(views.x, tensors()["x"])
    assert torch.equal(views.q.std, tensors()["q_std"])


def flip(path: Path, name: str) -> None:
    """Change one bit of an array."""
    where = path.read_bytes().find(tensors()[name].numpy().tobytes())
    data = bytearray(path.read_bytes())
    data[where] ^= 1
    path.write_bytes(data)


def rewrite(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path, str], None]:
    """Write the file anew, one of its arrays changed."""

    def spoil(path: Path, name: str) -> None:
        save_file(tensors() | {name: change(tensors()[name]).contiguous()}, path)

    return spoil


DAMAGES = {
    "a bit": flip,
    "fewer rows": rewrite(lambda rows: rows[:-1]),
    "other columns": rewrite(lambda rows: rows.view(ROWS, 1, -1)),
    "another shape": rewrite(lambda rows: rows.view(-1, ROWS)),
    "no shape": rewrite(lambda rows: rows.sum()),
    "another type": rewrite(lambda rows: rows.view(torch.int32)),
    "the same in half": rewrite(lambda rows: rows.bfloat16()),
}


@pytest.mark.parametrize("name", ["x", "q_mean", "q_std"])
@pytest.mark.parametrize("spoil", DAMAGES.values(), ids=DAMAGES)
def test_an_altered_array_is_refused_and_the_others_are_not(
    spoil: Callable[[Path, str], None], name: str, written: Any
) -> None:
    spoil(written[0], name)
    looks: dict[str, Callable[[Views], object]] = {"x": lambda v: v.x, "q": lambda v: v.q}
    spoilt = "x" if name == "x" else "q"
    altered = r"altered after it was written; fit the model again"
    for view, look in looks.items():
        if view == spoilt:
            with pytest.raises(ModelError, match=altered):
                look(read(*written).views[3:5])
        else:
            look(read(*written).views[3:5])
    with pytest.raises(ModelError, match=altered):
        Reference([read(*written)]).check(["x" if name == "x" else "p_bar"])
    Reference([read(*written)]).check(["q" if name == "x" else "x"])


def test_a_file_that_is_none_is_refused(written: Any) -> None:
    written[0].write_bytes(b"x" * 1000)
    with pytest.raises(ModelError, match=r"cannot be read \(.*header"):
        read(*written).views.x  # noqa: B018


def test_what_is_looked_at_takes_memory_only_while_it_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 MB looked at in pieces of 0.4 MB, as many as the file has, few are held at a time."""

    def in_use() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    monkeypatch.setattr(part_file, "ROWS", 10_000)
    network = VectorVAE(10, 1, (4,), "silu")

    def zeros() -> Views:
        q = Gaussian(torch.zeros(1_000_000, 1), torch.ones(1_000_000, 1))
        return Views(network, torch.zeros(1_000_000, 10), q)

    found = read_part(tmp_path, write_part(tmp_path, Part("ann", zeros)), network)
    before = most = in_use()
    for start in range(0, 1_000_000, 10_000):
        assert not found.views[start : start + 10_000].x.any()
        most = max(most, in_use())
    assert most - before < 15e6
    np.testing.assert_array_equal(found.views[5:7].x, 0)


# --- A file that is removed while it is in use


def test_a_part_that_is_removed_stays_for_who_has_it(written: Any) -> None:
    found = read(*written).views
    written[0].unlink()
    found.check("q")
    assert torch.equal(found.x, tensors()["x"])
    with pytest.raises(ModelError, match=r"is missing; fit the model again"):
        read(*written)


def test_a_part_that_is_let_go_of_is_closed(written: Any) -> None:
    before = len(list(Path("/dev/fd").iterdir()))
    found = [read(*written) for _ in range(5)]
    held = [one.views.x for one in found]
    del found, held
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) == before


def test_where_descriptors_are_few_a_part_goes_by_its_name(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_file.resource, "getrlimit", lambda which: (8, 8))
    before = len(list(Path("/dev/fd").iterdir()))
    found = read(*written)
    assert len(list(Path("/dev/fd").iterdir())) == before
    assert torch.equal(found.views.x, tensors()["x"])


def test_a_copy_goes_by_its_name(written: Any) -> None:
    again = pickle.loads(pickle.dumps(read(*written)))
    assert torch.equal(again.views.x, tensors()["x"])
