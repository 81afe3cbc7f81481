"""Models that are not as they should be: altered, or forged, so that their hashes are right."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
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
    new = re.sub("[0-9a-f]{32}", digest, old)
    (model / old).unlink()
    (model / new).write_bytes(content)
    index = json.loads(json.dumps(index).replace(old, new))
    index["files"][new] = len(content)
    index["hash"] = hash_of(index)
    (model / "model.json").write_text(json.dumps(index))


def forged(start: str, change: Callable[..., bytes]) -> Change:
    return lambda scene: forge(scene, start, lambda old: change(old, scene.random))


def altered(start: str, change: Callable[[bytes], bytes]) -> Change:
    """Change a file of the model and nothing else."""

    def mutate(scene: Scene) -> None:
        path = scene.one(sorted((scene.folder / "qspace-nd-model").glob(f"{start}*")))
        path.write_bytes(change(path.read_bytes()))

    return mutate


def arrays(start: str, change: Callable[..., Any], wanted: str = "") -> Change:
    """Change an array of a file, any or the one wanted, given all of them and its name."""

    def spoil(old: bytes, random: np.random.Generator) -> bytes:
        there = load(old)
        change(there, wanted or [*there][random.integers(len(there))])
        return save(there)

    return forged(start, spoil)


def array(start: str, value: Callable[[Any], Any], wanted: str = "") -> Change:
    return arrays(start, lambda there, name: there.update({name: value(there[name])}), wanted)


def first(value: float) -> Callable[[Any], Any]:
    return lambda a: np.where(np.arange(a.size).reshape(a.shape) == 0, value, a).astype(a.dtype)


def declared(start: str, **facts: Any) -> Change:
    """Let the header say something of an array that is not so."""

    def spoil(old: bytes, random: np.random.Generator) -> bytes:
        size = int.from_bytes(old[:8], "little")
        head = json.loads(old[8 : 8 + size])
        names = [name for name in head if name != "__metadata__"]
        head[names[random.integers(len(names))]] |= facts
        content = json.dumps(head).encode()
        return len(content).to_bytes(8, "little") + content + old[8 + size :]

    return forged(start, spoil)


def spoiled_bit(old: bytes, at: float = 0.5) -> bytes:
    place = int(len(old) * at)
    return old[:place] + bytes([old[place] ^ 1]) + old[place + 1 :]


def missing(start: str) -> Change:
    return lambda scene: next((scene.folder / "qspace-nd-model").glob(f"{start}*")).unlink()


def any_arrays(start: str) -> list[tuple[str, str, Change]]:
    """What may be wrong with any file of arrays."""
    deep = (90000).to_bytes(8, "little") + b"[" * 90000
    head = (b"\xff" * 7 + b"\x7f", bytes(8))
    return [
        (SAME, "a bit", altered(start, spoiled_bit)),
        (REFUSE, "cut", altered(start, lambda old: old[:-1])),
        (REFUSE, "none", missing(start)),
        (REFUSE, "forged, empty", forged(start, lambda *_: b"")),
        (REFUSE, "forged, noise", forged(start, lambda old, r: r.bytes(1000))),
        (REFUSE, "forged, code", forged(start, lambda *_: pickle.dumps([1]))),
        (REFUSE, "forged, a header of 2^63", forged(start, lambda old, _: head[0] + old[8:])),
        (REFUSE, "forged, no header", forged(start, lambda old, _: head[1] + old[8:])),
        (REFUSE, "forged, deep", forged(start, lambda *_: deep)),
        (REFUSE, "forged, cut", forged(start, lambda old, _: old[:-100])),
        (
            EITHER,
            "forged, bits",
            forged(start, lambda old, r: spoiled_bit(old, r.uniform(0, 0.003))),
        ),
        (REFUSE, "forged, 10^12 rows", declared(start, shape=[10**12, 8])),
        (REFUSE, "forged, negative rows", declared(start, shape=[-5, 8])),
        (REFUSE, "forged, 10^30 rows", declared(start, shape=[10**30, 8])),
        (REFUSE, "forged, beyond the end", declared(start, data_offsets=[0, 1 << 40])),
        (REFUSE, "forged, another type", declared(start, dtype="F64")),
        (REFUSE, "forged, no type", declared(start, dtype="O")),
        (REFUSE, "forged, words", declared(start, shape="many")),
        (SAME, "forged, flat", array(start, np.ravel)),
        (REFUSE, "forged, an axis more", array(start, lambda a: a[None])),
        (REFUSE, "forged, no row", array(start, lambda a: a[:0])),
        (REFUSE, "forged, a row less", array(start, lambda a: a[1:].copy())),
        (REFUSE, "forged, a column less", array(start, lambda a: a[..., 1:].copy())),
        (SAME, "forged, whole numbers", array(start, lambda a: a.astype(np.int64))),
        (EITHER, "forged, f2", array(start, lambda a: a.astype(np.float16))),
        (EITHER, "forged, f8", array(start, lambda a: a.astype(np.float64))),
        (REFUSE, "forged, one is missing", arrays(start, lambda there, name: there.pop(name))),
        (SAME, "forged, one too many", arrays(start, lambda there, _: there.update(y=np.zeros(3)))),
    ]


rows("weights", MODELS, any_arrays("weights"))
rows("arrays", ("map", "map baseline"), any_arrays("reference/"))
for _name, _right in ((np.nan, REFUSE), (np.inf, REFUSE), (1e38, REFUSE), (1e30, EITHER)):
    _value = first(_name)
    rows("weights", ("map", "map more"), [(SAME, f"forged, {_name}", array("weights", _value))])
    for _line, _array in (("map", "q_mean"), ("map baseline", "x")):
        _change = array("reference/", _value, _array)
        rows("arrays", (_line,), [(_right, f"forged, {_name} in {_array}", _change)])
rows(
    "arrays",
    ("map more",),
    [(EITHER, "forged, negative spread", array("reference/", np.negative, "q_std"))],
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
    ("map", "map baseline", "map more"),  # `add` writes through such links, as it should
    [
        (HARMLESS, "the model is a link", model_as(elsewhere)),
        (SAME, "reference/ is elsewhere", model_as(lambda m: elsewhere(m / "reference"))),
    ],
)
rows(
    "names",
    MODELS,
    [
        (REFUSE, "model.json is a folder", index_as(Path.mkdir)),
        (REFUSE, "model.json is a pipe", index_as(os.mkfifo)),
        (REFUSE, "model.json is a link to itself", index_as(lambda path: path.symlink_to(path))),
        (SAME, "a stranger's file", model_as(lambda m: (m / "notes.txt").write_text("x"))),
    ],
)
