"""Models that are not as they should be: altered, or forged, so that their hashes are right."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mutations import EITHER, HARMLESS, MODELS, REFUSE, SAME, Change, Scene, rows
from safetensors.numpy import load, save
from spoiled_texts import wrong_value, wrong_whole


def hash_of(index: dict[str, Any]) -> str:
    """The hash that a model's index bears."""
    rest = json.dumps({key: v for key, v in index.items() if key != "hash"}, sort_keys=True)
    return hashlib.blake2b(rest.encode(), digest_size=16).hexdigest()


def forged_value(scene: Scene) -> None:
    """Put a wrong value in the index, and the hash that goes with it."""
    wrong_value("qspace-nd-model/model.json")(scene)
    path = scene.folder / "qspace-nd-model/model.json"
    index = json.loads(path.read_text())
    if isinstance(index, dict):
        path.write_text(json.dumps(index | {"hash": hash_of(index)}))


rows(
    "JSON",
    (*MODELS, "check by model"),
    [
        (REFUSE, "model.json, all", wrong_whole("qspace-nd-model/model.json")),
        *[(EITHER, "model.json, forged", forged_value)] * 12,
    ],
)


def forge(scene: Scene, start: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file of the model, and all that vouches for it."""
    model = scene.folder / "qspace-nd-model"
    index = json.loads((model / "model.json").read_text())
    assert hash_of(index) == index["hash"], "the hash of an index is made otherwise now"
    old = scene.one([name for name in index["files"] if name.startswith(start)])
    content = change((model / old).read_bytes())
    digest = hashlib.blake2b(content, digest_size=16).hexdigest()
    new = f"{old.rpartition('-')[0]}-{digest}{Path(old).suffix}"
    (model / old).unlink()
    (model / new).write_bytes(content)
    index = json.loads(json.dumps(index).replace(old, new))
    index["files"][new] = len(content)
    index["hash"] = hash_of(index)
    (model / "model.json").write_text(json.dumps(index))


def forged(start: str, change: Callable[..., bytes]) -> Change:
    return lambda scene: forge(scene, start, lambda old: change(old, scene.random))


def weights(change: Callable[..., Any]) -> Change:
    """Change one tensor, given its name and all of them."""

    def spoil(old: bytes, random: np.random.Generator) -> bytes:
        tensors = load(old)
        name = [*tensors][random.integers(len(tensors))]
        change(tensors, name)
        return save(tensors)

    return forged("weights", spoil)


def arrays(change: Callable[..., Any], start: str = "reference/") -> Change:
    """Change an array of the reference."""

    def spoil(old: bytes, random: np.random.Generator) -> bytes:
        stream = io.BytesIO()
        np.save(stream, change(np.load(io.BytesIO(old))))
        return stream.getvalue()

    return forged(start, spoil)


def altered(start: str, change: Callable[[bytes], bytes]) -> Change:
    """Change a file of the model and nothing else."""

    def mutate(scene: Scene) -> None:
        path = scene.one(sorted((scene.folder / "qspace-nd-model").glob(f"{start}*")))
        path.write_bytes(change(path.read_bytes()))

    return mutate


def tensor(value: Callable[[Any], Any]) -> Change:
    return weights(lambda tensors, name: tensors.update({name: value(tensors[name])}))


def first(value: float) -> Callable[[Any], Any]:
    return lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, value, a).astype(a.dtype)


def npy(description: str) -> Change:
    """An array whose header says something else than what follows it."""
    head = description.encode().ljust(117) + b"\n"
    return forged("reference/", lambda old, _: b"\x93NUMPY\1\0" + b"\x76\0" + head + old[128:])


def spoiled_bit(old: bytes, at: float = 0.5) -> bytes:
    place = int(len(old) * at)
    return old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :]


rows(
    "weights",
    MODELS,
    [
        (REFUSE, "a bit", altered("weights", spoiled_bit)),
        (REFUSE, "cut", altered("weights", lambda old: old[:-1])),
        (REFUSE, "none", lambda s: next((s.folder / "qspace-nd-model").glob("weights*")).unlink()),
        (REFUSE, "forged, empty", forged("weights", lambda *_: b"")),
        (REFUSE, "forged, noise", forged("weights", lambda old, r: r.bytes(1000))),
        (
            REFUSE,
            "forged, a header of 2^63",
            forged("weights", lambda old, _: b"\xff" * 7 + b"\x7f" + old[8:]),
        ),
        (
            REFUSE,
            "forged, deep",
            forged("weights", lambda *_: (90000).to_bytes(8, "little") + b"[" * 90000),
        ),
        (REFUSE, "forged, cut", forged("weights", lambda old, _: old[:-100])),
        (
            EITHER,
            "forged, bits of the header",
            forged("weights", lambda old, r: spoiled_bit(old, r.uniform(0, 0.003))),
        ),
        (REFUSE, "forged, another shape", tensor(lambda a: np.zeros((*a.shape, 2), a.dtype))),
        (REFUSE, "forged, whole numbers", tensor(lambda a: a.astype(np.int64))),
        (EITHER, "forged, f2", tensor(lambda a: a.astype(np.float16))),
        (EITHER, "forged, f8", tensor(lambda a: a.astype(np.float64))),
        (REFUSE, "forged, one is missing", weights(lambda tensors, name: tensors.pop(name))),
        (
            SAME,
            "forged, one too many",
            weights(lambda tensors, name: tensors.update(x=np.zeros(3))),
        ),
    ],
)
rows(
    "weights",
    ("map", "map more"),
    [
        (REFUSE, "forged, NaN", tensor(first(np.nan))),
        (REFUSE, "forged, infinity", tensor(first(np.inf))),
        (REFUSE, "forged, 1e38", tensor(first(1e38))),
    ],
)
rows(
    "arrays",
    MODELS,
    [
        (REFUSE, "a bit", altered("reference/", spoiled_bit)),
        (REFUSE, "cut", altered("reference/", lambda old: old[:-1])),
        (
            REFUSE,
            "none",
            lambda s: next((s.folder / "qspace-nd-model/reference").glob("q_mean*")).unlink(),
        ),
        (REFUSE, "forged, empty", forged("reference/", lambda *_: b"")),
        (REFUSE, "forged, noise", forged("reference/", lambda old, r: r.bytes(1000))),
        (REFUSE, "forged, code", forged("reference/", lambda *_: pickle.dumps([1]))),
        (
            REFUSE,
            "forged, 10^12 rows",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 8), }"),
        ),
        (
            REFUSE,
            "forged, negative rows",
            npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 8), }"),
        ),
        (
            REFUSE,
            "forged, objects",
            npy("{'descr': '|O', 'fortran_order': False, 'shape': (9, 8), }"),
        ),
        (REFUSE, "forged, deep", npy("(" * 110)),
        (REFUSE, "forged, no shape", npy("{'descr': '<f4'}")),
        (
            REFUSE,
            "forged, strings",
            npy("{'descr': '<U4', 'fortran_order': False, 'shape': (9, 8), }"),
        ),
        (REFUSE, "forged, a column less", arrays(lambda a: a[:, 1:].copy())),
        (REFUSE, "forged, a row less", arrays(lambda a: a[1:].copy())),
        (REFUSE, "forged, no row", arrays(lambda a: a[:0])),
        (REFUSE, "forged, flat", arrays(np.ravel)),
        (REFUSE, "forged, three axes", arrays(lambda a: a[None])),
        (REFUSE, "forged, f8", arrays(lambda a: a.astype(np.float64), "reference/q_mean")),
        (REFUSE, "forged, whole numbers", arrays(lambda a: a.astype(np.int8), "reference/q_mean")),
        (EITHER, "forged, columns first", arrays(np.asfortranarray)),
        (EITHER, "forged, negative spread", arrays(np.negative, "reference/q_std")),
    ],
)


rows(
    "arrays",
    ("map",),
    [
        (REFUSE, "forged, NaN", arrays(first(np.nan), "reference/q_mean")),
        (REFUSE, "forged, infinity", arrays(first(np.inf), "reference/q_mean")),
        (EITHER, "forged, 1e30", arrays(first(1e30), "reference/q_mean")),
    ],
)
rows(
    "arrays",
    ("map baseline",),
    [(REFUSE, "forged, NaN in x", arrays(first(np.nan), "reference/x"))],
)


def model_as(change: Callable[[Path], object]) -> Change:
    return lambda scene: change(scene.folder / "qspace-nd-model")


def index_as(make: Callable[[Path], object]) -> Change:
    def change(model: Path) -> None:
        (model / "model.json").unlink()
        make(model / "model.json")

    return model_as(change)


def elsewhere(path: Path) -> None:
    path.symlink_to(path.rename(path.with_name("elsewhere")))


rows(
    "names",
    MODELS,
    [
        (HARMLESS, "the model is a link", model_as(elsewhere)),
        (REFUSE, "model.json is a folder", index_as(Path.mkdir)),
        (REFUSE, "model.json is a pipe", index_as(os.mkfifo)),
        (REFUSE, "model.json is a link to itself", index_as(lambda path: path.symlink_to(path))),
        (SAME, "a stranger's file", model_as(lambda m: (m / "notes.txt").write_text("x"))),
        (SAME, "reference/ is elsewhere", model_as(lambda m: elsewhere(m / "reference"))),
    ],
)
