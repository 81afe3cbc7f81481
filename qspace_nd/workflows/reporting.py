"""What a person's page is made of: the map and its companions, and healthy people's maps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qspace_nd.arrays import Bools, Float32
from qspace_nd.calibration.clusters import LEAST_VOXELS, HealthyClusters, find_clusters, logp_of
from qspace_nd.calibration.null import Null
from qspace_nd.errors import InputError, LabelError, ScanError, listed
from qspace_nd.evaluation.embedding import near_of, thumbnail
from qspace_nd.evaluation.page import SHARES, Healthy, Person, curve_of, logp_at
from qspace_nd.imaging.grid import Grid, require_same_grid
from qspace_nd.imaging.masks import read_mask
from qspace_nd.imaging.nifti import read_volume
from qspace_nd.imaging.scans import open_scan
from qspace_nd.imaging.underlay import read_underlays
from qspace_nd.imaging.zero_one import read_as_zero_one
from qspace_nd.layouts.maps import MapFiles, MapRecord, read_sidecar
from qspace_nd.layouts.scans import find_scans
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.nulls import Measured
from qspace_nd.model.quantities import Quantities
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.settings import CLUSTER_SHARE, EXACT, MapSettings

_MOST = 5.0  # -log10 p that thumbnails draw brightest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Compared:
    """Healthy people's maps, without one of them perhaps, at all shares that a page offers."""

    null: Null
    forming: float

    @property
    def shares(self) -> tuple[float, ...]:
        """Falling, the one that clusters are formed at among them."""
        return tuple(sorted({*SHARES, self.forming}, reverse=True))

    @cached_property
    def clusters(self) -> dict[float, HealthyClusters]:
        """Their clusters at each share."""
        return {share: HealthyClusters(self.null, share) for share in self.shares}

    @cached_property
    def logp(self) -> dict[str, Float32]:
        """-log10 p of all voxels of each person, by the others."""
        found: dict[str, list[Float32]] = {subject: [] for subject in self.null.subjects}
        for one in self.null.maps:
            p = self.null.p_values_of_others(one.subject, one.novelty)
            found[one.subject].append(logp_of(p))
        return {subject: np.concatenate(maps) for subject, maps in found.items()}

    @cached_property
    def healthy(self) -> Healthy:
        """What a page tells of them."""
        thresholds = logp_at(curve_of(self.shares))
        return Healthy(
            {
                subject: [self.clusters[share].masses[subject] for share in self.shares]
                for subject in self.null.subjects
            },
            {
                subject: [float(np.mean(logp > at)) for at in thresholds]
                for subject, logp in self.logp.items()
            },
        )

    def row(self, logp: Float32, mask: Bools, affine: Any) -> dict[str, Any]:
        """What the page of all tells of a map that is compared with them."""
        found = find_clusters(logp, mask, affine, self.forming)
        clusters = self.clusters[self.forming].compare(found).clusters
        return {
            "above": float(np.mean(logp > -np.log10(self.forming))),
            "clusters": len(clusters),
            "beyond": sum(one.healthy == 0 for one in clusters),
            "mass": clusters[0].mass if clusters else 0.0,
            "healthy": clusters[0].healthy if clusters else None,
            "people": len(self.null.subjects),
            "thumbnail": thumbnail(logp, mask, affine, _MOST),
        }

    def rows(self) -> list[dict[str, Any]]:
        """The same of each of themselves, by the others: of the first scan of each."""
        rows = []
        for subject in self.null.subjects:
            one = next(one for one in self.null.maps if one.subject == subject)
            others = Compared(self.null.without(subject), self.forming)
            if one.mask is None or len(others.null.subjects) < 1:
                continue
            logp = logp_of(others.null.p_values(one.novelty))
            own = others.row(logp, one.mask, one.affine)
            rows.append({"name": subject, "group": "healthy", "page": None, **own})
        return rows


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
            self._compared[key] = Compared(null, key[2])
        return self._compared[key]

    def person(self, name: str, record: MapRecord, labels: Path | None) -> Person:
        """Read all that a person's page shows.

        Raises
        ------
        InputError
            Something is not there or does not fit.
        """
        facts = read_sidecar(record.path)
        score = str(facts.get("Score"))
        novelty, grid = read_volume(record.path)
        mask = _mask_of(record, grid)
        assert record.mask is not None
        files = MapFiles({score: record.path}, record.mask)
        compared = self.compared(facts)
        values, wanting = novelty, ""
        shares: tuple[float, ...] = SHARES
        forming = CLUSTER_SHARE
        if compared is None:
            thresholds = [float(np.quantile(novelty[mask], 1 - share)) for share in shares]
            wanting = _wanting(facts, self.facts)
        else:
            values = _read(files.with_significance([score]).neglogp[score], grid)
            shares, forming = compared.shares, compared.forming
            thresholds = logp_at(shares)
        residual = files.with_residual().residual
        people = {scan.subject for scan in self.facts.acquisition.scans}
        return Person(
            *(name, mask, grid.affine, values, shares, thresholds, forming, LEAST_VOXELS, facts),
            model={"people": len(people), "voxels": f"{self.facts.voxels:,}"},
            healthy=None if compared is None else compared.healthy,
            wanting=wanting,
            underlays=_underlays(record, mask, grid),
            residual=_read(residual, grid) if residual and residual.is_file() else None,
            labels=None if labels is None else _labels(labels, grid),
            notes=_notes(facts, record),
            **self._deviations(files, grid),
        )

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
        for measured, _, forming in self._compared:
            return Compared(self.model.null(measured), forming)
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


def _labels(path: Path, grid: Grid) -> Bools:
    return read_as_zero_one(path, _read(path, grid), "lesion", LabelError).marked


def _underlays(record: MapRecord, mask: Bools, grid: Grid) -> dict[str, Float32]:
    """What shows the anatomy of the scan that a map was made of; none where it is not at hand."""
    if record.scan is None:
        return {}
    try:
        scan = open_scan(replace(find_scans([record.scan])[0], mask=record.mask))
        if scan.grid.same_as(grid):
            return read_underlays(scan, mask, near_of(mask, grid.affine))
    except InputError as error:
        _log.warning(f"The report of {record.path} does without its scan: {error}")
    return {}


def _wanting(facts: dict[str, Any], model: ModelFacts) -> str:
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


def _notes(facts: dict[str, Any], record: MapRecord) -> list[str]:
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
    if facts.get("PlaceNotUsed"):
        notes.append(str(facts["PlaceNotUsed"]))
    if facts.get("MaskComputed"):
        notes.append(
            "The brain mask was computed; look at it (Quality) before you rely on the map."
        )
    if record.scan is None:
        notes.append("The scan is not where it was, so that its anatomy is not shown.")
    return notes
