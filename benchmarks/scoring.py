"""Scoring cohorts by many methods, with every method's scores of every scan kept on disk."""

from __future__ import annotations

import inspect
import json
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cohorts
import numpy as np
from cohorts import MAIN_KIND, SIMULATOR, Cohort, Design, Rows, Scan, digest
from numpy.typing import NDArray
from peers import Fitted, Peer

from qspace_nd.system.writing import replacing

KIND_OTHERS = 3000
"""Voxels outside lesions that are scored where lesions are not of the main kind."""

Log = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Scored:
    """One method's scores of one scan.

    Attributes
    ----------
    method, name : str
        The name that the method has for its work, and that of these scores.
    cohort : Design
    scan : Scan
    rows : (m,) array
        The voxels that were scored: all lesion voxels, then others at random.
    scores : (m,) array
    whole : (n,) array or None
        The scores of all voxels, where they were computed.
    seconds : float
        Processor time that the scores took, without learning.
    facts : mapping
        What there is to say of the method as it learnt from the cohort.
    """

    method: str
    name: str
    cohort: Design
    scan: Scan
    rows: Rows
    scores: NDArray[np.float32]
    whole: NDArray[np.float32] | None
    seconds: float
    facts: Mapping[str, Any]

    @property
    def labels(self) -> NDArray[np.bool_]:
        return self.scan.labels[self.rows]

    @property
    def white_matter(self) -> NDArray[np.bool_]:
        return self.scan.white_matter[self.rows]

    @property
    def weights(self) -> NDArray[np.float64]:
        """How many voxels of the scan each scored one stands for."""
        labels = self.labels
        share = np.count_nonzero(~labels) / np.count_nonzero(~self.scan.labels)
        return np.where(labels, 1.0, 1.0 / share)


def sampled_rows(scan: Scan, others: int) -> Rows:
    """All lesion voxels of a scan, then `others` of the rest at random, the same ones first."""
    rng = np.random.default_rng(zlib.crc32(scan.name.encode()))
    rest = rng.permutation(np.flatnonzero(~scan.labels))
    return np.concatenate([np.flatnonzero(scan.labels), rest[:others]])


def score_cohort(
    cohort: Cohort, number: int, methods: Sequence[Peer], cache: Path, log: Log
) -> Iterator[Scored]:
    """Score the patients and left-out controls of a stage's cohort, the `number`-th from 0."""
    folder = cache / f"{cohort.design.name}-{digest(cohort.design, cohorts, *SIMULATOR)}"
    for method in methods:
        if number >= method.cohorts:
            continue
        kept = _Kept(cohort, method, folder / f"{_slug(method.names[0])}-{_digest(method)}", log)
        for scan in _scans(cohort, method):
            main = scan.kind in (MAIN_KIND, "healthy")
            rows = sampled_rows(scan, method.others if main else min(method.others, KIND_OTHERS))
            mapped = scan.kind == MAIN_KIND or (scan.kind == "healthy" and method.control_maps)
            whole = mapped and number < method.maps
            scores, seconds = kept.scores(scan, np.arange(len(scan.x)) if whole else rows)
            bare = replace(scan, signal=scan.signal[:0].copy(), x=scan.x[:0].copy())
            for name, values in zip(method.names, scores.T, strict=True):
                yield Scored(
                    method=method.names[0],
                    name=name,
                    cohort=cohort.design,
                    scan=bare,  # results outlive the cohort
                    rows=rows,
                    scores=values[rows] if whole else values,
                    whole=values if whole else None,
                    seconds=seconds,
                    facts=kept.facts(),
                )
        kept.log_time()


def _scans(cohort: Cohort, method: Peer) -> Iterator[Scan]:
    if method.controls:
        yield from cohort.left_out
    for kind in (MAIN_KIND, *method.kinds):
        yield from cohort.patients(kind)


@dataclass
class _Kept:
    """One method's files in the cache; it learns only when a file is missing."""

    cohort: Cohort
    method: Peer
    folder: Path
    log: Log
    spent: float = 0.0
    _fitted: Fitted | None = None

    def facts(self) -> Mapping[str, Any]:
        facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text())
        return facts

    def scores(self, scan: Scan, rows: Rows) -> tuple[NDArray[np.float32], float]:
        path = self.folder / f"{scan.name}-{scan.kind}-{len(rows)}.npz"
        if not path.exists():
            score = self._learnt().score
            start = time.process_time()
            scores = score(scan, rows).astype(np.float32)
            seconds = time.process_time() - start
            with replacing(path) as temporary, temporary.open("wb") as file:
                np.savez(file, scores=scores, seconds=seconds)
            self.spent += seconds
        with np.load(path) as kept:
            return kept["scores"], float(kept["seconds"])

    def log_time(self) -> None:
        if self.spent:
            self.log(f"{self._title}: scored in {self.spent:.1f} s")

    def _learnt(self) -> Fitted:
        if self._fitted is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            start = time.process_time()
            self._fitted = self.method.fit(self.cohort)
            facts = {**self._fitted.facts, "seconds": time.process_time() - start}
            with replacing(self.folder / "facts.json") as temporary:
                temporary.write_text(json.dumps(facts))
            self.log(f"{self._title}: {facts}")
        return self._fitted

    @property
    def _title(self) -> str:
        return f"{self.cohort.design.name}, {self.method.names[0]}"


def _digest(method: Peer) -> str:
    fit = method.fit if isinstance(method.fit, partial) else partial(method.fit)
    return digest(method.names, inspect.getsource(fit.func), fit.keywords, *method.sources)


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
