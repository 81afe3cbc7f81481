"""A person and healthy people to make pages of, and what a page holds once it is read again."""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import numpy as np
from scipy import ndimage

from qspace_nd.calibration.clusters import HealthyClusters, logp_of
from qspace_nd.calibration.null import HealthyMap, Null
from qspace_nd.evaluation.page import SHARES, Healthy, Person, curve_of, logp_at
from qspace_nd.imaging.anatomy import near
from qspace_nd.imaging.connected import LEAST_VOXELS

FLIPPED = np.array([[-2.0, 0, 0, 40], [0, 0, 2.5, -30], [0, 3, 0, -10], [0, 0, 0, 1]])
"""An affine whose axes go to the left, up and forwards, in voxels of three sizes."""


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
)
"""A PNG."""


def ball(shape: tuple[int, int, int], share: float = 0.42) -> np.ndarray:
    """A round brain in a volume."""
    places = np.indices(shape).reshape(3, -1).T / np.array(shape) - 0.5 + 0.5 / np.array(shape)
    return np.asarray((np.linalg.norm(places, axis=1) < share).reshape(shape))


def smooth(shape: tuple[int, int, int], seed: int, width: float = 1.2) -> np.ndarray:
    """Noise without sharp edges, of standard deviation 1."""
    noise = np.random.default_rng(seed).normal(size=shape)
    noise = ndimage.gaussian_filter(noise, width)
    return np.asarray((noise / noise.std()).astype(np.float32))


def null_of(people: int, mask: np.ndarray, affine: np.ndarray = FLIPPED) -> Null:
    """Healthy people, alike but for noise."""
    maps = [
        HealthyMap(f"control-{seed}", smooth(mask.shape, seed)[mask], mask, affine)
        for seed in range(people)
    ]
    return Null(maps)


def healthy_of(null: Null) -> Healthy:
    """What a page is told of them."""
    clusters = [HealthyClusters(null, share) for share in SHARES]
    return Healthy(
        {name: [one.masses[name] for one in clusters] for name in null.subjects},
        {
            one.subject: [
                float(np.mean(logp_of(null.p_values_of_others(one.subject, one.novelty)) > at))
                for at in logp_at(curve_of(SHARES))
            ]
            for one in null.maps
        },
    )


def person_of(null: Null, mask: np.ndarray, **others: Any) -> Person:
    """A patient with a lesion, and all that a page can show."""
    novelty = smooth(mask.shape, 100)
    middle = tuple(length // 2 for length in mask.shape)
    lesion = np.zeros(mask.shape, bool)
    lesion[tuple(slice(at - 2, at + 2) for at in middle)] = True
    novelty[lesion] += 2.5
    logp = np.zeros(mask.shape, np.float32)
    logp[mask] = logp_of(null.p_values(novelty[mask]))
    bright = 100 + 20 * smooth(mask.shape, 7)
    facts = {"Score": "latent-distance", "Latents": 8, "Neighbours": 10, "Sources": ["a", "b"]}
    settings: dict[str, Any] = {
        "name": "sub-01",
        "mask": mask,
        "affine": FLIPPED,
        "map": logp,
        "shares": SHARES,
        "thresholds": logp_at(SHARES),
        "forming": 0.01,
        "least": LEAST_VOXELS,
        "facts": facts,
        "model": {"people": len(null.subjects), "voxels": "1,000", "smoothing": 4.0},
        "healthy": healthy_of(null),
        "underlays": {
            "b=0": np.where(near(mask, np.array([2.0, 3.0, 2.5])), bright, 0).astype(np.float32),
            "FA": np.where(mask, np.abs(smooth(mask.shape, 8)) / 5, 0).astype(np.float32),
        },
        "residual": np.where(mask, 0.03, 0).astype(np.float32),
        "deviations": {
            name: smooth(mask.shape, seed) for seed, name in enumerate(("b0", "md", "fa"))
        },
        "against": "healthy people at the same place",
        "labels": lesion,
        "registration": PIXEL,
    }
    return Person(**(settings | others))


def data_in(page: str) -> dict[str, Any]:
    """What the script of a page draws from."""
    (found,) = re.findall(r'<script id="data" type="application/json">(.*?)</script>', page, re.S)
    data: dict[str, Any] = json.loads(found)
    return data


def unpacked(text: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)


def mask_in(text: str, shape: list[int]) -> np.ndarray:
    """A mask of a page."""
    bits = np.unpackbits(unpacked(text), bitorder="little", count=int(np.prod(shape)))
    return bits.reshape(shape).astype(bool)


def values_in(volume: dict[str, Any]) -> np.ndarray:
    """The values (n,) of a volume of a page."""
    codes = unpacked(volume["data"]).astype(np.int64)
    if volume["bits"] == 16:
        high, low = np.split(codes, 2)
        codes = 256 * high + low
    return np.asarray(volume["low"] + volume["step"] * codes)
