"""What a person's page is made of: the map and its companions, and healthy people's maps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.comparable import FWHM, Comparable
from qspace_nd.calibration.forming import CLUSTER_SHARE
from qspace_nd.errors import InputError, LabelError, ScanError, listed
from qspace_nd.evaluation.embedding import thumbnail
from qspace_nd.evaluation.page import SHARES, Person, Regions, logp_at
from qspace_nd.evaluation.shown_on import scan_of
from qspace_nd.imaging.anatomy import near, read_underlays
from qspace_nd.imaging.atlas import Atlas
from qspace_nd.imaging.connected import LEAST_VOXELS
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.protocol import ScanOptions, read_scan
from qspace_nd.imaging.scans import Scan
from qspace_nd.imaging.zero_one import read_as_zero_one
from qspace_nd.layouts.maps import MapFiles, MapRecord, read_sidecar
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured
from qspace_nd.model.quantities import Quantities
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.catalogue import find_score
from qspace_nd.scores.explanation import AT_PLACE
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.workflows.compared import Compared
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.placing import Placer
from qspace_nd.workflows.settings import EXACT, MapSettings
from qspace_nd.workflows.significance import far_level

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Studied:
    """A model, and the maps that were made by it.

    Attributes
    ----------
    model : NoveltyModel
    facts : ModelFacts
    """

    model: NoveltyModel
    facts: ModelFacts
    _compared: dict[tuple[Measured, str | None, float], Compared] = field(default_factory=dict)

    def choose(self, records: Sequence[MapRecord]) -> MapRecord:
        """Of the maps of a scan: one that is compared with healthy people's, the default's first.

        Raises
        ------
        InputError
            They were made by another model.
        """
        known = {record.path: read_sidecar(record.path) for record in records}
        for path, facts in known.items():
            if facts.get("Model") != self.facts.digest:
                raise InputError(
                    f"{path} was not made by the model in {self.facts.folder} as it is now; name "
                    f"the model that made it with --model, or map the scan again by this one."
                )

        def rank(record: MapRecord) -> tuple[bool, bool, bool]:
            facts = known[record.path]
            default = facts.get("Score") == DEFAULT_SCORE
            return self.compared(facts) is None, not default, "SmoothingFWHM" in facts

        return min(records, key=rank)

    def compared(self, facts: dict[str, Any]) -> Compared | None:
        """The healthy maps that a map with this sidecar is compared with; None where it is not.

        Raises
        ------
        InputError
            The sidecar says what cannot be.
        """
        score, neighbours = str(facts.get("Score")), facts.get("Neighbours")
        if facts.get("PlaceNotUsed") or "ClusterFormingShare" not in facts:
            return None
        search = facts.get("Search", EXACT)
        settings = MapSettings((score,), neighbours, search, toward=facts.get("Toward"))
        measured = settings.measured(self.facts.neighbours).get(score)
        if measured is None or measured not in self.facts.measured:
            return None
        key = measured, facts.get("LeftOut"), float(facts["ClusterFormingShare"])
        if key not in self._compared:
            null = self.model.null(measured)
            null = null if key[1] is None else null.without(key[1])
            self._compared[key] = Compared(Comparable(null.maps).null, key[2])
        return self._compared[key]

    def person(
        self, name: str, record: MapRecord, labels: Path | None, progress: Progress = SILENT
    ) -> Person:
        """Read all that a person's page shows; register the scan where the map knows the place.

        Raises
        ------
        InputError
            Something is not there or does not fit.
        """
        facts, (novelty, grid) = read_sidecar(record.path), read_volume(record.path)
        mask = _mask_of(record, grid)
        files = MapFiles({str(facts.get("Score")): record.path}, record.mask or record.path)
        residual = files.with_residual().residual
        told = self._deviations(files, grid)
        scan = scan_of(record, grid)
        placed = bool(find_score(str(facts.get("Score"))).score.rests)
        placed |= told.get("against") == AT_PLACE
        return Person(
            name,
            mask,
            grid.affine,
            **self._meaning(facts, files, novelty, mask, grid),
            least=LEAST_VOXELS,
            facts=facts,
            model=self._of_model,
            underlays={} if scan is None else _underlays(scan, mask),
            residual=_read(residual, grid) if residual and residual.is_file() else None,
            registration=self._registration(scan, name, progress) if placed else None,
            labels=None if labels is None else _labels(labels, grid),
            regions=_regions(files, facts, grid),
            notes=_notes(facts, scan),
            **told,
        )

    def _meaning(
        self, facts: dict[str, Any], files: MapFiles, novelty: Float32, mask: Bools, grid: Grid
    ) -> dict[str, Any]:
        """The map that is shown, its thresholds, and the healthy people or why there are none."""
        compared = self.compared(facts)
        if compared is None:
            if not np.isfinite(novelty[mask]).all():
                (path,) = files.maps.values()
                raise ScanError(f"{path} holds NaN or infinity in its mask; map the scan again.")
            thresholds = [float(np.quantile(novelty[mask], 1 - share)) for share in SHARES]
            shown = {"map": novelty, "shares": SHARES, "forming": CLUSTER_SHARE}
            return {**shown, "thresholds": thresholds, "wanting": _wanting(facts)}
        (path,) = files.with_significance([*files.maps]).neglogp.values()
        return {
            "map": _read(path, grid),
            "shares": compared.shares,
            "forming": compared.forming,
            "thresholds": logp_at(compared.shares),
            "healthy": compared.healthy,
        }

    def _registration(self, scan: Scan | None, name: str, progress: Progress) -> bytes | None:
        """A picture of how the scan lies in the template, where there are both."""
        if scan is None or self.model.template_ is None:
            return None
        placer, protocol = Placer.from_arrays(self.model.template_), self.facts.protocol
        try:
            voxels = read_scan(scan, protocol, ScanOptions(ignore_nonfinite=True), progress)
            return placer.draw(voxels, protocol, name)
        except InputError as error:
            _log.warning(f"The report of {name} does without a picture of its place: {error}")
            return None

    @property
    def _of_model(self) -> dict[str, Any]:
        """What the methods tell of the model: of whom and of how many voxels it is."""
        facts = self.facts
        told = {
            "people": len({scan.subject for scan in facts.acquisition.scans}),
            "voxels": f"{facts.learned:,}",
            "smoothing": FWHM,
        }
        if facts.voxels < facts.learned:
            drawn = f", of which {facts.voxels:,}, drawn at random, were compared with"
            told["drawn"] = drawn
        return told

    def row(self, person: Person) -> dict[str, Any]:
        """What the page of all tells of a person."""
        compared, values = self.compared(dict(person.facts)), person.map[person.mask]
        if compared is None:
            low, high = np.quantile(values, [0.5, 0.999])
            shown = np.float32(high - low or 1)
            return {"thumbnail": thumbnail((values - low) / shown, person.mask, person.affine, 1.0)}
        return compared.row(values, person.mask, person.affine)

    def healthy(self) -> Compared | None:
        """All healthy people's maps, by what the first person was compared with them."""
        for (measured, left_out, forming), one in self._compared.items():
            if left_out is None:
                return one
            return Compared(Comparable(self.model.null(measured).maps).null, forming)
        return None

    def _deviations(self, files: MapFiles, grid: Grid) -> dict[str, Any]:
        try:
            names = Quantities.of(self.facts.acquisition).names
        except InputError:  # nothing is told of such scans
            return {}
        paths = files.with_deviations(names).deviations
        there = {name: path for name, path in paths.items() if path.is_file()}
        if not there:
            return {}
        against = read_sidecar(next(iter(there.values()))).get("Against", "the healthy")
        volumes = {name: _read(path, grid) for name, path in there.items()}
        return {"deviations": volumes, "against": against}


def _read(path: Path, grid: Grid) -> Float32:
    values, found = read_volume(path)
    require_same_grid(path, found, grid)
    return values


def _mask_of(record: MapRecord, grid: Grid) -> Bools:
    if record.mask is None:
        raise ScanError(f"The mask of {record.path} is not beside it; map the scan again.")
    return read_mask(record.mask, grid).marked


def _regions(files: MapFiles, facts: dict[str, Any], grid: Grid) -> Regions | None:
    """The regions of the atlas that the map's clusters were named by, where some are known."""
    path = files.with_regions().regions
    if "Atlas" not in facts or path is None or not path.is_file():
        return None
    try:
        atlas = Atlas.read(path)
    except InputError:  # no voxel lies in one
        return None
    require_same_grid(path, atlas.grid, grid)
    return Regions(atlas.labels, atlas.names)


def _labels(path: Path, grid: Grid) -> Bools:
    return read_as_zero_one(path, _read(path, grid), "lesion", LabelError).marked


def _underlays(scan: Scan, mask: Bools) -> dict[str, Float32]:
    try:
        return read_underlays(scan, mask, near(mask, scan.grid.voxel_sizes))
    except InputError as error:
        _log.warning(f"The report does without the anatomy of {scan.files.image}: {error}")
        return {}


def _wanting(facts: dict[str, Any]) -> str:
    score = facts.get("Score", "this score")
    if facts.get("PlaceNotUsed"):
        return (
            "This map was made without the place, and healthy people's with it, so that it is not "
            "compared with them. Colours show what is most novel in this brain, which every brain "
            "has."
        )
    return (
        f"The model is not calibrated for this map ({score}): nothing says how much of this "
        f"novelty healthy people have. Colours show what is most novel in this brain, which every "
        f"brain has. Calibrate the model (qspace-nd calibrate; four healthy people or more), and "
        f"map the scan again."
    )


def _notes(facts: dict[str, Any], scan: Scan | None) -> list[str]:
    notes = []
    if facts.get("LeftOut"):
        notes.append(
            f"This is one of the model's healthy people ({facts['LeftOut']}), who was left out of "
            f"the reference and is compared with the others."
        )
    if facts.get("UnlikeModel"):
        notes.append(
            f"The scan was made otherwise than the healthy people's: "
            f"{listed(facts['UnlikeModel'])}. More of its brain may be novel for that alone."
        )
    level, levels = facts.get("LevelAboveHealthy"), facts.get("HealthyLevels")
    if level is not None and levels:
        far = far_level(str(facts.get("Patient", "the scan")), level, (min(levels), max(levels)))
        notes += [] if far is None else [far]
    if facts.get("PlaceNotUsed"):
        notes.append(str(facts["PlaceNotUsed"]))
    if facts.get("MaskComputed"):
        notes.append(
            "The brain mask was computed; look at it (Quality) before you rely on the map."
        )
    if scan is None:
        notes.append("The scan is not where it was, so that its anatomy is not shown.")
    return notes
