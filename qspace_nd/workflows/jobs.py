"""The jobs of `map`, one a scan: what is done is skipped, and one that fails stops no other.

Every image that is written carries a stamp in its header, and every picture in its metadata: a hash
of all that it was made of, the scan's files, the model and the settings. A map appears whole and
last, so one with the right stamp is done, wherever an earlier run was stopped; a sidecar alone
would not do, as it may outlive or precede its map.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

from qspace_nd.errors import OutputError, QspaceError, ScanError, WorkError, counted
from qspace_nd.evaluation.mosaic import has_stamp
from qspace_nd.imaging.acquisition import Acquisition
from qspace_nd.imaging.atlas import Atlas
from qspace_nd.imaging.nifti import read_description
from qspace_nd.imaging.protocol import Protocol, ScanOptions, protocol_of
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.unchanged import require_unchanged
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.maps import MapFiles, read_sidecar, sidecar_path
from qspace_nd.model import store
from qspace_nd.model.nulls import Measured
from qspace_nd.network.recipes import PRESETS
from qspace_nd.system.hashing import hash_of_file
from qspace_nd.system.writing import require_writable

_log = logging.getLogger(__name__)

STAMP = "qspace-nd"
"""What the stamps of all images begin with."""


@dataclass(frozen=True, eq=False)
class ModelFacts:
    """What a model's index alone says of it.

    Attributes
    ----------
    folder : Path
        The model's, absolute: a job may be done by a process that works elsewhere.
    digest : str
        The model's hash.
    neighbours : int
        The nearest healthy voxels that it takes the mean distance to, unless asked otherwise.
    acquisition : Acquisition
        Of the scans that it was fitted on.
    voxels : int
        How many healthy voxels its reference holds.
    has_template : bool
        Whether its voxels have places.
    measured : tuple of Measured
        By what its healthy people were measured.
    """

    folder: Path
    digest: str
    neighbours: int
    acquisition: Acquisition
    voxels: int
    has_template: bool = False
    measured: tuple[Measured, ...] = ()

    @property
    def protocol(self) -> Protocol:
        """What a scan is brought to."""
        return protocol_of(self.acquisition)

    @property
    def learned(self) -> int:
        """How many healthy voxels the network learned from: all of its scans'."""
        return sum(scan.voxels for scan in self.acquisition.scans)

    @staticmethod
    def read(folder: Path) -> ModelFacts:
        """Read the index of the model in `folder`.

        Raises
        ------
        InputError
            There is no model, or it was fitted on arrays.
        """
        index = store.read_index(folder)
        settings = index["settings"]
        own = settings.get("neighbours")  # None for the preset's, as models of before have
        neighbours = own or PRESETS[settings.get("preset", "default")].neighbours
        acquisition = store.require_acquisition(store.acquisition_in(index), folder)
        placed = index.get("template") is not None
        measured = store.measured_in(index) if index.get("grids") else ()
        voxels = sum(part["rows"] for part in index["reference"])
        return ModelFacts(
            *(folder.absolute(), index["hash"], neighbours, acquisition, voxels, placed, measured)
        )


@dataclass(frozen=True, eq=False)
class MapJob:
    """One scan to be mapped: all of it can be pickled, and sent to another process.

    Attributes
    ----------
    scan : Scan
    model : ModelFacts
    files : MapFiles
        Where the maps go.
    options : ScanOptions
        How the scan is read.
    facts : dict
        Whatever else decides what the maps show: the model and so on, as sidecars name them.
    smooth : float or None
        mm, of the smoothed maps.
    atlas : Atlas or None
        That clusters are named by.
    force : bool
        Whether maps that are there are made again.
    datasets : tuple of Path
        The BIDS datasets that the scans of the run are of, which a dataset of maps links to.
    """

    scan: Scan
    model: ModelFacts
    files: MapFiles
    options: ScanOptions
    facts: dict[str, Any]
    smooth: float | None = None
    atlas: Atlas | None = None
    force: bool = False
    datasets: tuple[Path, ...] = ()

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """All that the maps are made of; reads the scan's files, as they are, packed or not.

        Raises
        ------
        ScanError
            One of them cannot be read, or is not the one that was looked at before.
        """
        source = hash_of_files(self.scan.files)
        require_unchanged(self.scan.states)
        return {**self.facts, "SourceHash": source}

    def stamp(self, fwhm: float | None = None) -> str:
        """What an image made by this recipe, smoothed or not, has in its header (79 bytes)."""
        content = json.dumps([self.recipe, fwhm], sort_keys=True).encode()
        return f"{STAMP} {hashlib.blake2b(content, digest_size=16).hexdigest()}"

    def is_done(self) -> bool:
        """Whether every image and picture is there, made as it would be made now.

        Raises
        ------
        OutputError
            One is there that was made otherwise.
        """
        files = self.files
        plain = [*files.maps.values(), files.mask]
        plain += [] if files.residual is None else [files.residual]
        plain += [] if files.regions is None else [files.regions]
        plain += files.deviations.values()
        plain += self._significant(files.neglogp, files.clusters)
        images: dict[Path, float | None] = dict.fromkeys(plain)
        images |= dict.fromkeys(files.smoothed.values(), self.smooth)
        pictures = list(chain.from_iterable(files.pictures.values()))
        if not any(path.exists() for path in files.paths()):
            return False  # without reading the scan
        for image, fwhm in images.items():
            if image.exists():
                self._require(image, _description(image) == self.stamp(fwhm))
            elif sidecar_path(image).exists():  # a run was stopped before it wrote the image
                self._require(sidecar_path(image), self.recipe.items() <= _facts(image).items())
        for picture in filter(Path.exists, pictures):
            self._require(picture, has_stamp(picture, self.stamp()))
        return all(path.exists() for path in (*images, *pictures))

    def _significant(self, *images: dict[str, Path]) -> Iterator[Path]:
        """The images by healthy people's maps, without those for which the place was wanting."""
        for score, path in self.files.maps.items():
            if "PlaceNotUsed" not in _facts(path):
                yield from (one[score] for one in images if score in one)

    def _require(self, path: Path, same: bool) -> None:
        if same:
            return
        facts = _facts(path)
        changed = [key for key, value in self.recipe.items() if facts.get(key, value) != value]
        how = "not from this scan by this model and these settings"
        if changed:
            then, now = facts[changed[0]], self.recipe[changed[0]]
            how = _OTHERWISE.get(changed[0], f"with {changed[0]} {then} and not {now}")
        raise OutputError(
            f"{path} exists already, and was made {how}; name another output, or map this scan "
            f"again with --force."
        )


_OTHERWISE = {
    "Model": "with another model",
    "SourceHash": "when the scan, its mask or its gradients were other files",
}
"""How an image was made, in words, where the value says nothing to a reader."""


@dataclass(frozen=True)
class Outstanding:
    """What is left to do of a run, and why some of it may not be done.

    Attributes
    ----------
    jobs : list of MapJob
    refused : list of str
        Of scans whose maps are there but were made otherwise: a sentence each.
    """

    jobs: list[MapJob]
    refused: list[str]


def outstanding(jobs: Sequence[MapJob]) -> Outstanding:
    """Choose the jobs that are to be done.

    Raises
    ------
    OutputError
        Outputs of all that are not done are there and were made otherwise, or one cannot be
        written.
    """
    left, refused = [], []
    for job in jobs:
        try:
            if job.force or not job.is_done():
                left.append(job)
        except OutputError as error:
            refused.append(str(error))
    if refused and not left:
        raise OutputError(refused[0])
    done = len(jobs) - len(left) - len(refused)
    if done:
        be = "are" if len(jobs) > 1 else "is"
        _log.info(
            f"{done} of {counted(len(jobs), 'scan')} {be} mapped already, by the same model and "
            f"settings, and {be} skipped"
        )
    paths = [path for job in left for path in job.files.paths()]
    require_writable(paths, force=True)
    return Outstanding(left, refused)


@dataclass(frozen=True)
class Ended:
    """A job that is over, and what it failed by, if it did."""

    job: MapJob
    error: QspaceError | None = None


def finish(left: Outstanding, ended: Iterable[Ended], of: int) -> None:
    """Wait for the jobs of a run of `of` scans, and tell at the end what could not be done.

    Parameters
    ----------
    left : Outstanding
        What is to be done.
    ended : iterable of Ended
        Its jobs, in any order, as a runner gives them.
    of : int

    Raises
    ------
    WorkError
        Some of several failed or were refused; the others are done.
    QspaceError
        The only one failed.
    """
    failures = list(left.refused)
    for message in failures:
        _log.warning(message)
    for one in ended:
        if one.error is None:
            continue
        if of == 1:
            raise one.error
        _log.warning(str(one.error))
        failures.append(str(one.error))
    if failures:
        rest = (
            "the maps of the others are there, and are skipped when the command is run again"
            if len(failures) < of
            else "nothing was written"
        )
        reasons = "; ".join(failure.rstrip(".") for failure in failures)
        raise WorkError(f"{len(failures)} of {of} scans could not be mapped: {reasons}; {rest}.")


def hash_of_files(files: ScanFiles) -> str:
    """Hash the bytes of a scan and of what belongs to it: quicker than to unpack them."""
    whole = hashlib.blake2b(digest_size=16)
    for path in (files.image, files.bval, files.bvec, files.mask):
        whole.update(b"-" if path is None else _hash_of_file(path))
    return whole.hexdigest()


def _hash_of_file(path: Path) -> bytes:
    try:
        return hash_of_file(path).encode()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ScanError(f"{path} cannot be read ({reason}); check the file.") from error


def _description(image: Path) -> str | None:
    try:
        return read_description(image)
    except ScanError:
        return None


def _facts(path: Path) -> dict[str, Any]:
    try:
        return read_sidecar(path)
    except ScanError:
        return {}
