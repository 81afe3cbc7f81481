"""What `fit` and `add` share: healthy scans, read one at a time, their voxels kept on the disk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from qspace_nd.arrays import Float32
from qspace_nd.diffusion.normalise import divide_by_channel_means
from qspace_nd.errors import ScanError
from qspace_nd.imaging.acquisition import HealthyScan
from qspace_nd.imaging.conditions import Conditions, conditions_of, differences, unlike
from qspace_nd.imaging.nifti import write_volume
from qspace_nd.imaging.protocol import Protocol, ScanOptions, read_scan
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.voxels import Voxels
from qspace_nd.layouts.person import Person
from qspace_nd.model import store
from qspace_nd.model.masks_folder import (
    drop_masks,
    mask_path,
    settle_masks,
    take_up_masks,
    waiting_masks,
)
from qspace_nd.model.rows import Healthy
from qspace_nd.progress import Progress, Reaching, Task, timed, within
from qspace_nd.registration.places import Registration
from qspace_nd.system.scratch import Scratch, ScratchArray, SharedScratch, remove_scratch
from qspace_nd.system.sharing import HERE, Each
from qspace_nd.workflows.placing import Placer, Seen, points_of, see

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeptScan:
    """A healthy scan that was read, its voxels and its mask on the disk.

    Attributes
    ----------
    scan : Scan
    identity : HealthyScan
    values : (n, C) ScratchArray
        The voxels, divided by the scan's mean.
    mask : (X, Y, Z) ScratchArray
    computed_mask : bool
        Whether the scan came without a mask.
    warnings : tuple of str
    seen : Seen or None
        What places its voxels, where they are to be placed.
    points : (n, 3) ScratchArray or None
        Where they lie in the template.
    unplaceable : str or None
        Why they cannot be placed, in a sentence, where they were to be.
    """

    scan: Scan
    identity: HealthyScan
    values: ScratchArray
    mask: ScratchArray
    computed_mask: bool
    warnings: tuple[str, ...]
    seen: Seen | None = None
    points: ScratchArray | None = None
    unplaceable: str | None = None

    @property
    def healthy(self) -> Healthy:
        """Its voxels as a model takes them."""
        features = None if self.seen is None else self.seen.features
        return Healthy(self.identity.subject, self.values, self.points, features)

    def placed(
        self, registration: Registration, placer: Placer, protocol: Protocol, scratch: Scratch
    ) -> KeptScan:
        """The scan, of whose voxels it is known where they lie."""
        wrong = placer.wrong(self.scan, protocol, registration)
        return replace(
            self,
            points=scratch.keep(points_of(registration, self.mask[:], self.scan.grid)),
            warnings=self.warnings if wrong is None else (*self.warnings, wrong),
        )


def scratch_for(each: Each, folder: Path) -> Scratch:
    """Where voxels of the model in `folder` are kept for who reads the scans.

    What processes left there that were killed is removed.
    """
    remove_scratch(folder)
    return Scratch(folder) if each.elsewhere is None else SharedScratch(folder)


def keep_scans(
    scans: Sequence[Scan],
    protocol: Protocol,
    options: ScanOptions,
    scratch: Scratch,
    progress: Progress,
    *,
    to_place: bool = False,
    each: Each = HERE,
) -> list[KeptScan]:
    """Read scans into a protocol's channels, of which a process has one at a time in memory.

    What places their voxels is kept too where they are `to_place`.

    Raises
    ------
    InputError
        One cannot be used, or two are the same.
    """
    kept: dict[str, KeptScan] = {}
    steps = sum(scan.channels + 1 for scan in scans)  # a volume is one, and a scan's fit
    done = 0
    with timed("Reading scans"), progress.task("Reading scans", steps) as task:
        reaching = Reaching(task)
        read = partial(
            _read_and_keep, protocol, options, scratch, within(reaching), to_place=to_place
        )
        for one in each(read, scans):
            other = kept.setdefault(one.identity.digest, one)
            if other is not one:
                raise ScanError(
                    f"{one.scan.files.image} holds the same scan as {other.scan.files.image}; give "
                    f"each scan once."
                )
            done += one.scan.channels + 1
            reaching.reach(done, note="" if each.elsewhere is None else one.scan.files.name)
    return list(kept.values())


def _read_and_keep(
    protocol: Protocol,
    options: ScanOptions,
    scratch: Scratch,
    progress: Progress,
    scan: Scan,
    *,
    to_place: bool,
) -> KeptScan:
    """Read one scan, in whichever process."""
    with progress.task("Reading", scan.channels) as task:
        task.advance(0, note=scan.files.name)
    voxels = read_scan(scan, protocol, options, progress)
    one = _keep(scan, voxels, scratch)
    return _seen(one, voxels, protocol, scratch) if to_place else one


def _seen(one: KeptScan, voxels: Voxels, protocol: Protocol, scratch: Scratch) -> KeptScan:
    try:
        return replace(one, seen=see(voxels, protocol, scratch))
    except ScanError as error:  # whether that matters, `fit` and `add` know
        return replace(one, unplaceable=str(error))


def _keep(scan: Scan, voxels: Voxels, scratch: Scratch) -> KeptScan:
    person = Person.of(scan.files)
    return KeptScan(
        scan,
        HealthyScan(
            scan.files.name,
            scan.files.subject,
            voxels.digest,
            len(voxels.values),
            conditions_of(voxels),
            person.age,
            person.sex,
        ),
        scratch.keep(voxels.values),
        scratch.keep(voxels.mask),
        voxels.computed_mask,
        voxels.warnings,
    )


def normalise(
    kept: Iterable[KeptScan], means: Float32, scratch: Scratch, task: Task | None = None
) -> None:
    """Divide the channels of scans by `means` (C,), on the disk; a step of `task` for each scan."""
    for one in kept:
        scratch.change(one.values, partial(divide_by_channel_means, means=means))
        if task is not None:
            task.advance()


def warn_of(kept: Iterable[KeptScan], known: Sequence[Conditions] = ()) -> None:
    """Tell what a user should look at in the scans: after what would refuse them was looked for.

    And in what each is unlike the healthy scans that are `known` and those before it.
    """
    others = list(known)
    for one in kept:
        for warning in (*one.scan.warnings, *one.warnings):
            _log.warning(warning)
        own = one.identity.conditions
        if own is not None:
            found = differences(own, others)
            if found:
                _log.warning(unlike(one.scan.files.image, found))
            others.append(own)


@contextmanager
def computed_masks(kept: Iterable[KeptScan], folder: Path) -> Iterator[None]:
    """Save the masks that had to be computed with the model that the block writes to `folder`.

    Never beside the scans.
    """
    index = folder / store.INDEX
    computed = {f"{one.scan.files.name}_mask.nii.gz": one for one in kept if one.computed_mask}
    take_up_masks(folder, index)
    try:
        for name, one in computed.items():
            path = waiting_masks(folder) / name
            write_volume(path, one.mask[:], one.scan.grid, like=index)
        yield
    except BaseException:
        drop_masks(folder)
        raise
    settle_masks(folder)
    for name, one in computed.items():
        path = mask_path(folder, name)
        _log.info(f"{one.scan.files.image} had no brain mask; the one computed is {path}")
