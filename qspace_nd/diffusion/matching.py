"""Which volume of a scan serves which channel of a model: by b-value and by direction."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qspace_nd.arrays import Bools, Float64, Ints
from qspace_nd.diffusion.gradients import B0_LIMIT, B_TOLERANCE, GradientTable, name_volumes
from qspace_nd.errors import GradientError

MAX_ANGLE = 5.0
"""How far, in degrees, a direction may lie from the model's."""

_WIDEST = 30  # degrees: beyond, a volume is no longer what the model's was


def channel_order(
    model: GradientTable, scan: GradientTable, name: Path | str, max_angle: float = MAX_ANGLE
) -> Ints:
    """Find the volume of a scan that serves each channel of a model, one to one.

    Volumes agree where their b-values differ by at most 5 % or 50 s/mm², whichever is larger, and
    their directions, up to sign, by at most `max_angle` degrees.

    Parameters
    ----------
    model, scan : GradientTable
        Of C volumes each.
    name : Path or str
        The scan, for the message.
    max_angle : float
        Degrees.

    Returns
    -------
    (C,) ndarray of int
        `order[i]` is the volume of the scan for channel `i`; the scan's own order where that is
        acceptable.

    Raises
    ------
    GradientError
        There is no such order; the message names volumes, and their b-values or angles.
    """
    if len(model.bvals) != len(scan.bvals):
        raise GradientError(
            f"{name} has {len(scan.bvals)} volumes ({scan.shells()}), but the model was fitted to "
            f"{len(model.bvals)} ({model.shells()}); take a scan of the same protocol."
        )
    same_b = _same_b(model, scan)  # (C, C): model channel by scan volume
    angles = _angles(model, scan)
    order = np.arange(len(model.bvals))
    acceptable = same_b & (angles <= max_angle)
    if not acceptable.diagonal().all():
        order = _assign(same_b, acceptable, angles)
        order[model.b0] = np.sort(order[model.b0])  # any b=0 serves: keep their order
    _require_same_b(model, scan, name, same_b, order)
    _require_same_directions(scan, name, angles, order, max_angle)
    return order


def _same_b(model: GradientTable, scan: GradientTable) -> Bools:
    ours = np.where(model.b0, 0.0, model.bvals)[:, None]
    theirs = np.where(scan.b0, 0.0, scan.bvals)[None, :]
    allowed = np.maximum(B0_LIMIT, B_TOLERANCE * np.maximum(ours, theirs))
    return np.asarray(np.abs(ours - theirs) <= allowed)


def _angles(model: GradientTable, scan: GradientTable) -> Float64:
    """(C, C) angles in degrees up to sign; 0 between two volumes of b=0."""
    # The arc tangent keeps small angles exact where the arc cosine loses half the digits.
    ours, theirs = model.directions[:, None], scan.directions[None, :]
    sine = np.linalg.norm(np.cross(ours, theirs), axis=-1)
    angles = np.degrees(np.arctan2(sine, np.abs((ours * theirs).sum(axis=-1))))
    return np.where(model.b0[:, None] & scan.b0[None, :], 0.0, angles)


def _assign(same_b: Bools, acceptable: Bools, angles: Float64) -> Ints:
    """Match one to one: first as few other b-values, then as few wide angles as possible."""
    from scipy.optimize import linear_sum_assignment

    wide = 90.0 * len(angles)  # more than all the angles that an assignment can save elsewhere
    penalty = wide * ((~acceptable).astype(np.float64) + len(angles) * ~same_b)
    order: Ints = linear_sum_assignment(angles + penalty)[1]
    return order


def _require_same_b(
    model: GradientTable,
    scan: GradientTable,
    name: Path | str,
    same_b: Bools,
    order: Ints,
) -> None:
    other = np.flatnonzero(~same_b[np.arange(len(order)), order])
    if not len(other):
        return
    found = [f"b={scan.bvals[order[i]]:g} for the model's {model.bvals[i]:g}" for i in other]
    raise GradientError(
        f"{name} has other b-values than the model: {name_volumes(order[other], found)}; expected "
        f"{model.shells()} within 5 % or 50 s/mm², found {scan.shells()}: take a scan of the same "
        "protocol."
    )


def _require_same_directions(
    scan: GradientTable,
    name: Path | str,
    angles: Float64,
    order: Ints,
    max_angle: float,
) -> None:
    off = angles[np.arange(len(order)), order]  # (C,) by the model's channels
    wide = np.flatnonzero(off > max_angle)
    if not len(wide):
        return
    wide = wide[np.argsort(-off[wide], kind="stable")]
    raise GradientError(
        f"{name} has other gradient directions than the model in {len(wide)} of "
        f"{np.count_nonzero(~scan.b0)} weighted volumes: "
        f"{name_volumes(order[wide], [f'{angle:.1f}°' for angle in off[wide]])}; expected at most "
        f"{max_angle:g}° in the world frame: take a scan of the same protocol and slab "
        f"orientation{_allowance(off[wide[0]])}."
    )


def _allowance(angle: float) -> str:
    """Advise to allow an angle, in degrees, that leaves the volumes much the same."""
    allowed = int(angle) + 1
    return f", or allow more with --max-angle {allowed}" if allowed <= _WIDEST else ""
