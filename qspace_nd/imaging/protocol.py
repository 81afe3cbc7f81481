"""What the scans of a model agree in, and how each is brought to it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from qspace_nd.arrays import Float32, Ints
from qspace_nd.diffusion.gradients import B0_LIMIT, LOW_B, GradientTable
from qspace_nd.diffusion.invariants import RotationInvariants
from qspace_nd.diffusion.matching import MAX_ANGLE, channel_order
from qspace_nd.diffusion.normalise import divide_by_scan_mean
from qspace_nd.diffusion.resampling import Resampling
from qspace_nd.errors import GradientError, InputError, ScanError
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.scans import Scan, open_scan, volumes_in
from qspace_nd.imaging.stack import Stack
from qspace_nd.imaging.voxels import Voxels, read_voxels
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.scans import find_scans
from qspace_nd.progress import SILENT, Progress

_log = logging.getLogger(__name__)

RAW, ROTATION_INVARIANT = "raw", "rotation-invariant"
"""What the channels of a model are: the volumes, or features of each shell (`invariants`)."""


@dataclass(frozen=True)
class ScanOptions:
    """How scans are found, accepted and read.

    Attributes
    ----------
    bval, bvec, mask : Path or None
        Named for a single scan, in place of the files beside it.
    max_angle : float
        Degrees that a gradient direction may differ from the model's.
    ignore_nonfinite : bool
        Leave voxels with NaN or infinity out, rather than refuse the scan.
    gradients : "auto", "resample" or "strict"
        Resample scans in spherical harmonics where each shell has directions enough, in any case,
        or never: refuse scans of other tables.
    b0_threshold : float
        b-values up to this are taken as 0, in s/mm².

    Raises
    ------
    InputError
        The angle or the threshold is out of range.
    """

    bval: Path | None = None
    bvec: Path | None = None
    mask: Path | None = None
    max_angle: float = MAX_ANGLE
    ignore_nonfinite: bool = False
    gradients: str = "auto"
    b0_threshold: float = B0_LIMIT

    def __post_init__(self) -> None:
        if not 0 <= self.max_angle <= 90:  # NaN would accept all directions
            raise InputError(
                f"max_angle is {self.max_angle} degrees; a number from 0 to 90 is wanted."
            )
        if not 0 <= self.b0_threshold <= LOW_B:
            raise InputError(
                f"b0_threshold is {self.b0_threshold} s/mm²; a number up to {LOW_B:g} is wanted."
            )


DEFAULT_OPTIONS = ScanOptions()

_SAMPLE = 4000  # voxels that tell a scan's residual
_RESAMPLED = (
    "All scans are fitted in spherical harmonics, which takes noise off "
    "(--gradients strict takes them as they were scanned)"
)
_AS_SCANNED = (
    "and the others are taken as they were scanned: they have no shells, too few directions, or no "
    "b=0 volume, for a fit in spherical harmonics, which would take noise off"
)


@dataclass(frozen=True)
class Protocol:
    """What every scan of a model is brought to.

    Attributes
    ----------
    volumes : int
    gradients : GradientTable or None
        Of the volumes; None for channels without b-values.
    resampled : bool
        Whether all scans are resampled to these gradients.
    features : str
        `RAW` or `ROTATION_INVARIANT`.
    stack : Stack or None
        What the channels are called, and which is registered, where they have no b-values.
    """

    volumes: int
    gradients: GradientTable | None
    resampled: bool = False
    features: str = RAW
    stack: Stack | None = None

    def scales(self, means: Float32) -> Float32:
        """What channels are divided by, where their means over healthy voxels are `means` (C,)."""
        if self.gradients is None or self.features == RAW:
            return means
        return RotationInvariants(self.gradients, self.gradients, "The model").scales(means)

    def called(self, channels: Sequence[str], register_on: str | None) -> Protocol:
        """The same, with names of its channels, or the one that is registered, or both.

        Raises
        ------
        InputError
            The scans have b-values, or the names do not fit their channels.
        """
        if not channels and register_on is None:
            return self
        if self.stack is None:
            option, what = (
                ("--channels", "their volumes are known by them")
                if channels
                else ("--register-on", "they are registered by their anisotropy")
            )
            raise GradientError(
                f"{option} is for scans without b-values; these have some, and {what}: leave the "
                f"option out."
            )
        stack = self.stack.called(channels) if channels else self.stack
        if self.stack.is_named and stack.names != self.stack.names:
            raise InputError(
                f"--channels calls the channels {','.join(channels)}, and the JSON files beside "
                f"the scans {','.join(self.stack.names)}; leave --channels out, or correct the "
                f"files."
            )
        stack = stack if register_on is None else stack.registered_on(register_on)
        return replace(self, stack=stack)


@dataclass(frozen=True)
class Bridge:
    """How the volumes of a scan become the channels of a model.

    Attributes
    ----------
    order : (C,) array of int or None
        The volume that serves as each channel; None for all in order.
    transform : Resampling or RotationInvariants or None
        What is done with the volumes then.
    mixed : bool
        Whether the scan is resampled though the model's scans are not.
    """

    order: Ints | None = None
    transform: Resampling | RotationInvariants | None = None
    mixed: bool = False

    def channels(self, values: Float32) -> Float32:
        """Bring voxels (n, C') to channels (n, C), divided by the scan's mean, maybe in place."""
        if self.transform is None:
            divide_by_scan_mean(values)
            return values
        if isinstance(self.transform, Resampling):
            return self.transform(values, overwrite=True)
        return self.transform(values)

    def residual(self, values: Float32) -> Float32 | None:
        """The residual (n,) of the fit to voxels (n, C'), None where nothing is fitted."""
        return None if self.transform is None else self.transform.fits.residual(values)


def protocol_of(acquisition: Acquisition) -> Protocol:
    """The protocol of the scans that a model was fitted on."""
    gradients = acquisition.gradients
    return Protocol(
        len(acquisition.channel_means if gradients is None else gradients.bvals),
        gradients,
        acquisition.resampled,
        acquisition.features,
        acquisition.stack,
    )


def open_scans(paths: Iterable[str | Path], options: ScanOptions) -> list[Scan]:
    """Find scans and check their headers, gradients and masks, reading no voxel.

    Raises
    ------
    InputError
        The first thing that is wrong with any of them.
    """
    return [open_scan(files, options.b0_threshold) for files in files_of(paths, options)]


def files_of(paths: Iterable[str | Path], options: ScanOptions) -> list[ScanFiles]:
    """Find scans and what belongs to them; of headers those alone that tell what is no scan.

    Raises
    ------
    InputError
        See `find_scans`.
    """
    return find_scans(
        paths, bval=options.bval, bvec=options.bvec, mask=options.mask, volumes_in=volumes_in
    )


def common_protocol(
    scans: Sequence[Scan],
    options: ScanOptions = DEFAULT_OPTIONS,
    features: str = RAW,
    *,
    aloud: bool = True,
) -> Protocol:
    """The protocol of healthy scans, that of the first one.

    All scans are resampled or none is: mixing costs accuracy. They are wherever the directions
    allow it, even where the tables agree, because the fit takes off noise that distances would
    otherwise consist of (see `docs/training.md`).

    If `aloud`, how scans are taken is logged.

    Raises
    ------
    InputError
        A scan has other channels or another gradient table and cannot be brought to the first's.
    """
    # Where b-values are missing, the message is to name the scan that lacks them.
    first = next((scan for scan in scans if scan.gradients is not None), scans[0])
    path = first.files.image
    if first.gradients is None and features == ROTATION_INVARIANT:
        raise GradientError(
            f"{path} has no b-values, which {features} features are made of; put its .bval and "
            f".bvec files beside it, or take --features {RAW}."
        )
    if first.gradients is None and options.gradients == "resample":
        raise GradientError(
            f"{path} has no b-values, without which there is nothing to resample by; put its .bval "
            f"and .bvec files beside it, or take --gradients auto."
        )
    if options.gradients == "auto" and features == RAW and first.gradients is not None:
        protocol = _resampled_where_possible(scans, first, options)
        if aloud:
            _log.info(_RESAMPLED if protocol.resampled else f"{path} {_AS_SCANNED}")
        return protocol
    resampled = options.gradients == "resample" and features == RAW
    stack = None
    if first.gradients is None:
        names = next((scan.names for scan in scans if scan.names), ())
        stack = Stack(names) if names else Stack.of(first.channels)
    protocol = Protocol(first.channels, first.gradients, resampled, features, stack)
    for scan in scans:
        bring_to(scan, protocol, options)
    return protocol


def _resampled_where_possible(scans: Sequence[Scan], first: Scan, options: ScanOptions) -> Protocol:
    """What cannot be fitted is taken as it is, where all scans agree."""
    protocol = Protocol(first.channels, first.gradients, resampled=True)
    try:
        for scan in scans:
            bring_to(scan, protocol, options)
    except GradientError:
        unlike = replace(protocol, resampled=False)
        if any(bring_to(scan, unlike, options).mixed for scan in scans):
            raise
        return unlike
    return protocol


def bring_to(scan: Scan, protocol: Protocol, options: ScanOptions = DEFAULT_OPTIONS) -> Bridge:
    """Find how the volumes of `scan` become the channels of `protocol`.

    Raises
    ------
    InputError
        The scan has other channels, or another gradient table that cannot be brought to it.
    """
    path = str(scan.files.image)
    model, own = protocol.gradients, scan.gradients
    if model is None or own is None:
        _require_plain(scan, protocol)
        return Bridge()
    if options.gradients == "strict":
        _in_order(model, own, path, options)
    if protocol.features == ROTATION_INVARIANT:
        return Bridge(transform=RotationInvariants(model, own, path))
    if protocol.resampled:
        return Bridge(transform=Resampling(model, own, path))
    if options.gradients != "resample":
        with suppress(_Resamplable):
            return Bridge(_in_order(model, own, path, options))
    return Bridge(transform=Resampling(model, own, path), mixed=True)


class _Resamplable(GradientError):
    """A scan has another table than the model, but can be resampled to it."""


def _in_order(model: GradientTable, own: GradientTable, path: str, options: ScanOptions) -> Ints:
    """The volume that serves each channel; or what is in the way, and whether resampling helps."""
    try:
        return channel_order(model, own, name=path, max_angle=options.max_angle)
    except GradientError as error:
        unlike = str(error)
    try:
        Resampling(model, own, path)
    except GradientError as error:
        if options.gradients == "strict":  # nobody asked to have it fitted
            raise GradientError(unlike) from error
        raise GradientError(
            f"{str(error).rstrip('.')}; nor can it be taken as it was scanned, as it "
            f"{unlike.removeprefix(f'{path} ')}"
        ) from error
    raise _Resamplable(f"{unlike.rstrip('.')}, or let it be resampled with --gradients auto.")


def read_scan(
    scan: Scan,
    protocol: Protocol,
    options: ScanOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
    *,
    residual: bool = False,
) -> Voxels:
    """Read a scan's voxels in the protocol's channels, divided by the scan's mean.

    Where `residual`, that of the fit in spherical harmonics is computed too, if there is one: of
    the volumes, which are let go of here, so that a scan is never held twice.

    Raises
    ------
    InputError
        The scan does not fit the protocol, or its signal cannot be used.
    """
    bridge = bring_to(scan, protocol, options)
    voxels = read_volumes(scan, bridge, options, progress)
    return replace(
        voxels,
        residual=bridge.residual(voxels.values) if residual else None,
        values=bridge.channels(voxels.values),  # after the residual, whose volumes it overwrites
    )


def read_volumes(
    scan: Scan,
    bridge: Bridge,
    options: ScanOptions = DEFAULT_OPTIONS,
    progress: Progress = SILENT,
) -> Voxels:
    """Read a scan's voxels as they are stored, and the residual of some of them.

    Raises
    ------
    InputError
        The scan's signal cannot be used.
    """
    voxels = read_voxels(
        scan, order=bridge.order, ignore_nonfinite=options.ignore_nonfinite, progress=progress
    )
    some = voxels.values[:: max(1, len(voxels.values) // _SAMPLE)]
    mixing = (
        f"{scan.files.image} is resampled in spherical harmonics to the gradient directions of "
        f"scans that were not resampled; maps are most accurate where all are: fit with "
        f"--gradients resample."
    )
    return replace(
        voxels,
        residual_sample=bridge.residual(some),
        warnings=(*voxels.warnings, mixing) if bridge.mixed else voxels.warnings,
    )


def _require_plain(scan: Scan, protocol: Protocol) -> None:
    """Check a scan without b-values, or one for a protocol without them."""
    path = scan.files.image
    if protocol.gradients is not None:
        raise GradientError(
            f"{path} has no b-values beside it, the scans it is to be compared with have; put its "
            f".bval and .bvec files beside it, or name them with --bval and --bvec."
        )
    if scan.gradients is not None:
        raise GradientError(
            f"{path} has b-values, the scans it is to be compared with have none; give all of them "
            f"b-values, or none."
        )
    if scan.channels != protocol.volumes:
        raise ScanError(
            f"{path} has {scan.channels} channels, {protocol.volumes} are expected; give scans of "
            f"one protocol."
        )
    names = () if protocol.stack is None or not protocol.stack.is_named else protocol.stack.names
    if scan.names and names and scan.names != names:
        raise ScanError(
            f"{path} has the channels {', '.join(scan.names)} by the JSON file beside it, expected "
            f"{', '.join(names)}, as the scans have that it is to be compared with; stack its "
            f"images in that order."
        )
