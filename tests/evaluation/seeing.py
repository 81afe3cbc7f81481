"""How people see colours who see them otherwise, and how far two colours are apart for them."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb

KINDS = {
    "all": np.eye(3),
    "protan": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deutan": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "tritan": np.array(
        [
            [1.255528, -0.076749, -0.178779],
            [-0.078411, 0.930809, 0.147602],
            [0.004733, 0.691367, 0.303900],
        ]
    ),
}
"""Of linear RGB, at severity 1: Machado, Oliveira and Fernandes 2009, IEEE Trans Vis Comput Graph
15(6), doi:10.1109/TVCG.2009.113, the tables that come with it."""

_TO_XYZ = np.array(  # of sRGB (IEC 61966-2-1), by its white, D65
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)


def seen(colour: object, kind: str) -> np.ndarray:
    """A colour of matplotlib as someone sees it, in CIE Lab (3,)."""
    rgb = np.array(to_rgb(colour))  # type: ignore[arg-type]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = _TO_XYZ @ np.clip(KINDS[kind] @ linear, 0, 1)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: object, other: object, kind: str) -> float:
    """The distance of two colours in CIE Lab: about 2 is the least that is seen."""
    return float(np.linalg.norm(seen(one, kind) - seen(other, kind)))
