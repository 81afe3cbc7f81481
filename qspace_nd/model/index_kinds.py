"""What `model.json` may hold: each key that is made use of, in words and as a test.

A model may come from anybody, and its index be signed again after it was changed.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

from qspace_nd.diffusion.tensor import TISSUE
from qspace_nd.imaging.protocol import RAW, ROTATION_INVARIANT
from qspace_nd.imaging.stack import NAME
from qspace_nd.network.recipes import PRESETS
from qspace_nd.network.vae import ACTIVATIONS
from qspace_nd.scores.catalogue import CATALOGUE
from qspace_nd.system.machine import DEVICES

ARRAYS = r"(template|grids|null|summary)-[0-9a-f]{32}\.safetensors"
WEIGHTS = r"weights-[0-9a-f]{32}\.safetensors"
PART = r"[0-9a-f]{32}\.safetensors"
"""The names of a model's files, in its folder and in `reference/`."""

_Kind = tuple[str, Callable[[Any], bool]]


def require_kinds(index: Mapping[str, Any]) -> None:
    """Check all that is made use of.

    Raises
    ------
    ValueError
        Something is missing, of another kind, or unlike the rest; the message says what.
    """
    try:
        json.dumps(index, allow_nan=False)
    except ValueError:
        raise ValueError("holds a number that is not finite") from None
    _check("", index, _INDEX | {key: _OPTIONAL[key] for key in index.keys() & _OPTIONAL})
    settings, network, training = (index[key] for key in ("settings", "network", "training"))
    _check("settings.", settings, {key: _SETTINGS[key] for key in settings.keys() & _SETTINGS})
    _check("network.", network, _NETWORK | _kinds_of(network))
    _check("training.", training, _TRAINING)
    _check("training.", training, {key: _ASSESSED[key] for key in training.keys() & _ASSESSED})
    for number, part in enumerate(index["reference"]):
        _check(f"reference[{number}].", part, _PART)
        _check(f"reference[{number}].", part, _PLACED if "features" in part else _UNPLACED)
    for number, null in enumerate(index.get("nulls", [])):
        _check(f"nulls[{number}].", null, _NULL)
        _check(f"nulls[{number}].", {"summary": None} | null, {"summary": _or_null(_ARRAYS)})
    _require_agreement(index)
    features = len(TISSUE)
    if index["acquisition"] is not None:
        _check_acquisition(index["acquisition"], math.prod(_shape_of(network)))
        features = _check_stack(index["acquisition"], placed=index.get("template") is not None)
    found = index["reference"][0].get("features", features)
    if found != features:
        raise ValueError(f"has {found} features of tissue where {features} are told")


def names_in(index: Mapping[str, Any]) -> list[str]:
    """The files that a model is made of, beside its index."""
    arrays = [index[key] for key in ("template", "grids") if index.get(key) is not None]
    nulls = [
        null[key] for null in index.get("nulls", []) for key in ("file", "summary") if key in null
    ]
    nulls = [file for file in nulls if file is not None]
    parts = [f"reference/{part['file']}" for part in index["reference"]]
    return [index["weights"], *arrays, *nulls, *parts]


def _check_acquisition(acquisition: Mapping[str, Any], channels: int) -> None:
    later = {key: _LATER[key] for key in acquisition.keys() & _LATER}
    _check("acquisition.", acquisition, _ACQUISITION | later)
    for number, scan in enumerate(acquisition["scans"]):
        where = f"acquisition.scans[{number}]."
        _check(where, scan, _SCAN)
        _check(where, scan, {key: _PERSON[key] for key in scan.keys() & _PERSON})
        if scan.get("conditions") is not None:  # models of before do not tell
            _check(f"{where}conditions.", scan["conditions"], _CONDITIONS)
    gradients = acquisition["gradients"]
    if gradients is not None:
        _check("acquisition.gradients.", gradients, _GRADIENTS)
    means, raw = len(acquisition["channel_means"]), acquisition.get("features", RAW) == RAW
    volumes = means if gradients is None or not raw else len(gradients["bvals"])
    if not means == volumes == channels:
        raise ValueError(
            f"has {means} channel means and {volumes} gradients for {channels} channels"
        )


def _check_stack(acquisition: Mapping[str, Any], *, placed: bool) -> int:
    """Check what is said of channels without b-values, which models of before do not tell.

    Returns how many features tell what tissue is like.
    """
    stack, channels = acquisition.get("stack"), len(acquisition["channel_means"])
    plain, registered = acquisition["gradients"] is None, None
    if stack is not None:
        _check("acquisition.stack.", stack, _STACK)
        registered, named = stack["registered"], len({*stack["names"]})
        if not (plain and named == len(stack["names"]) == channels):
            raise ValueError(f"has {named} names of channels for {channels} without b-values")
    if plain and ((registered is None) == placed or (registered or 0) >= channels):
        raise ValueError(f"has as the channel that is registered {registered}")
    return channels if plain else len(TISSUE)


def _require_agreement(index: Mapping[str, Any]) -> None:
    latents, training = index["network"]["latents"], index["training"]
    said = index["settings"].get("latents")
    if latents != len(training["latent_kl"]) or said not in (None, latents):
        raise ValueError("has other numbers of latents in its settings, network and training")
    if not set(names_in(index)) <= index["files"].keys():
        raise ValueError("does not list its weights and the parts of its reference as files")
    if len({"x" in part["arrays"] for part in index["reference"]}) > 1:
        raise ValueError("has signals of some of its parts alone")
    located = {part.get("features") for part in index["reference"]}
    if len(located) > 1 or (None in located) != (index.get("template") is None):
        raise ValueError("has places of some of its parts alone, or without a template")


def _kinds_of(network: Mapping[str, Any]) -> dict[str, _Kind]:
    """What is asked of a network by the data that it is for: images, tables or vectors."""
    kinds = {"shape": _OF_IMAGES, "row": _OF_TABLES}
    return next((kind for key, kind in kinds.items() if key in network), _OF_VECTORS)


def _shape_of(network: Mapping[str, Any]) -> list[int]:
    shape = network.get("shape", network.get("row"))
    return [network["channels"]] if shape is None else list(shape)


def _check(where: str, facts: object, kinds: Mapping[str, _Kind]) -> None:
    if not isinstance(facts, Mapping):
        raise ValueError(f"has as {where.rstrip('.')} {reprlib.repr(facts)}, not an object")
    for key, (kind, is_kind) in kinds.items():
        if key not in facts:
            raise ValueError(f"has no {where}{key}")
        if not is_kind(facts[key]):
            raise ValueError(f"has as {where}{key} {reprlib.repr(facts[key])}, not {kind}")


def _is_whole(value: Any, least: int = 1, most: float = 1e9) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) is int or type(value) is float


def _is_real(value: Any) -> bool:
    """Whether a value is a number that a float32 can hold."""
    return _is_number(value) and abs(value) < 3e38


def _is_list(value: object, of: Callable[[Any], bool], least: int = 1) -> bool:
    return isinstance(value, list) and len(value) >= least and all(map(of, value))


def _is_match(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_hashes(value: object, names: set[str]) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() | {"x"} == names | {"x"}
        and all(_is_match(one, _HASH) for one in value.values())
    )


def _whole(least: int = 1, most: float = 1e9) -> _Kind:
    return f"a whole number of {least} or more", lambda v: _is_whole(v, least, most)


def _one_of(*values: str) -> _Kind:
    return f"one of {', '.join(values)}", lambda v: isinstance(v, str) and v in values


def _or_null(kind: _Kind) -> _Kind:
    words, is_kind = kind
    return f"{words}, or null", lambda v: v is None or is_kind(v)


_OBJECT: _Kind = ("an object", lambda v: isinstance(v, dict))
_TEXT: _Kind = ("text", lambda v: isinstance(v, str))
_TRUTH: _Kind = ("true or false", lambda v: type(v) is bool)
_HASH = r"[0-9a-f]{32}"
_WIDTHS: _Kind = (
    "a list of widths",
    lambda v: _is_list(v, lambda width: _is_whole(width, most=1e6), 0) and len(v) <= 100,
)

_INDEX: dict[str, _Kind] = {
    "settings": _OBJECT,
    "network": _OBJECT,
    "training": _OBJECT,
    "weights": ("the name of a file of weights", lambda v: _is_match(v, WEIGHTS)),
    "acquisition": _or_null(_OBJECT),
    "reference": ("a list of one part or more", lambda v: _is_list(v, bool)),
    "files": (
        "the size of each file",
        lambda v: (
            isinstance(v, dict)
            and all(_is_match(name, rf"{WEIGHTS}|{ARRAYS}|reference/{PART}") for name in v)
            and all(_is_whole(size, 0, 1e15) for size in v.values())
        ),
    ),
}
_SETTINGS: dict[str, _Kind] = {
    "latents": _or_null(_whole(most=1e6)),
    "hidden": _or_null(_WIDTHS),
    "kl_weight": _or_null(("a number of 0 or more", lambda v: _is_real(v) and v >= 0)),
    "epochs": _or_null(_whole()),
    "validation": ("a share between 0 and 1", lambda v: _is_real(v) and 0 < v < 1),
    "neighbours": _or_null(_whole()),
    "reference": _or_null(_whole()),
    "preset": _one_of(*PRESETS),
    "decision_score": (
        "the name of a score",
        lambda v: isinstance(v, str) and v in CATALOGUE,
    ),
    "seed": _whole(0, 2**64 - 1),
    "device": _one_of(*DEVICES),
}
_NETWORK: dict[str, _Kind] = {
    "latents": _whole(most=1e6),
    "hidden": _WIDTHS,
    "activation": _one_of(*ACTIVATIONS),
    "standardised": _TRUTH,
}
_OF_VECTORS: dict[str, _Kind] = {"channels": _whole(most=1e6)}
_OF_IMAGES: dict[str, _Kind] = {
    "shape": (
        "three whole numbers",
        lambda v: _is_list(v, lambda size: _is_whole(size, most=1e5), 3) and len(v) == 3,
    )
}
_OF_TABLES: dict[str, _Kind] = {
    "row": (
        "one whole number or three",
        lambda v: _is_list(v, lambda size: _is_whole(size, most=1e5)) and len(v) in (1, 3),
    )
}
_TRAINING: dict[str, _Kind] = {
    "steps": _whole(0),
    "best_step": _whole(0),
    "losses": (
        "a list of steps and two losses",
        lambda v: _is_list(
            v, lambda row: _is_list(row, _is_number, 3) and len(row) == 3 and _is_whole(row[0], 0)
        ),
    ),
    "latent_kl": ("a list of numbers", lambda v: _is_list(v, _is_number)),
    "latents_alive": _whole(0),
}
_SHARE: _Kind = ("a share", lambda v: _is_real(v) and 0 <= v <= 1)
_ASSESSED: dict[str, _Kind] = {
    "altered_auc": _or_null(_SHARE),
    "altered_auc_of_all": _or_null(_SHARE),
}
_PART: dict[str, _Kind] = {
    "subject": _TEXT,
    "file": ("the name of a part's file", lambda v: _is_match(v, PART)),
    "rows": _whole(),
}
_UNPLACED: dict[str, _Kind] = {
    "arrays": (
        "the hashes of q_mean, q_std and, it may be, x",
        lambda v: _is_hashes(v, {"q_mean", "q_std"}),
    ),
}
_PLACED: dict[str, _Kind] = {
    "features": _whole(most=1e6),
    "arrays": (
        "the hashes of q_mean, q_std, points, features and, it may be, x",
        lambda v: _is_hashes(v, {"q_mean", "q_std", "points", "features"}),
    ),
}
_ARRAYS: _Kind = ("the name of a file of arrays", lambda v: _is_match(v, ARRAYS))
_OPTIONAL: dict[str, _Kind] = {
    "template": _or_null(_ARRAYS),
    "grids": _or_null(_ARRAYS),
    "nulls": ("a list of objects", lambda v: _is_list(v, lambda one: isinstance(one, dict), 0)),
}
"""What an index may lack."""
_NULL: dict[str, _Kind] = {
    "score": ("the name of a score", lambda v: isinstance(v, str) and v in CATALOGUE),
    "neighbours": _whole(),
    "toward": _or_null(_TEXT),
    "file": _ARRAYS,
}
_ACQUISITION: dict[str, _Kind] = {
    "channel_means": (
        "a list of numbers other than 0",
        lambda v: _is_list(v, lambda mean: _is_real(mean) and mean != 0),
    ),
    "gradients": _or_null(_OBJECT),
    "scans": ("a list of objects", lambda v: _is_list(v, lambda scan: isinstance(scan, dict), 0)),
}
_PERSON: dict[str, _Kind] = {
    "age": _or_null(("a number of years", lambda v: _is_real(v) and v >= 0)),
    "sex": _or_null(_one_of("F", "M")),
}
_SCAN: dict[str, _Kind] = {
    "name": _TEXT,
    "subject": _TEXT,
    "digest": _TEXT,
    "voxels": _whole(),
}
_POSITIVE: _Kind = ("a number above 0", lambda v: _is_real(v) and v > 0)
_CONDITIONS: dict[str, _Kind] = {
    "voxel_sizes": (
        "three numbers above 0",
        lambda v: _is_list(v, _POSITIVE[1], 3) and len(v) == 3,
    ),
    "echo_time": _or_null(_POSITIVE),
    "field_strength": _or_null(_POSITIVE),
    "scanner": _or_null(_TEXT),
    "residual": _or_null(("two numbers", lambda v: _is_list(v, _is_real, 2) and len(v) == 2)),
}
_GRADIENTS: dict[str, _Kind] = {
    "bvals": ("a list of numbers of 0 or more", lambda v: _is_list(v, _is_b_value)),
    "directions": (
        "a list of three numbers each",
        lambda v: _is_list(v, lambda row: _is_list(row, _is_real, 3) and len(row) == 3),
    ),
}
_LATER: dict[str, _Kind] = {
    "resampled": _TRUTH,
    "features": _one_of(RAW, ROTATION_INVARIANT),
    "stack": _or_null(_OBJECT),
}
"""What an acquisition may lack."""
_STACK: dict[str, _Kind] = {
    "names": (
        "a list of names of channels",
        lambda v: _is_list(v, lambda name: _is_match(name, rf"{NAME}|[1-9][0-9]*")),
    ),
    "registered": _or_null(_whole(0)),
}


def _is_b_value(value: Any) -> bool:
    return _is_number(value) and 0 <= value < 1e6
