"""The same people twice, on one and on several scanners (OpenNeuro ds003416, MASiVar).

    python benchmarks/real/ds003416.py DIR

fits models on some of the people of one scanner, maps all scans of the others, and says how alike
two maps of one person are: Spearman's r of the maps, and Dice of the clusters of their most novel
voxels, within a session, between sessions on one scanner, and between scanners. Maps of two people
stand beside, as what anatomy alone makes alike. A section of RESULTS.md is written.

download (the preprocessed scans alone are needed, as PreQual left them):

    aws s3 sync --no-sign-request s3://openneuro.org/ds003416 DIR --exclude '*' \\
        --include 'derivatives/prequal-v1.0.0/*/dwi/*' --include dataset_description.json
    (or: openneuro download ds003416 DIR; or: datalad install -s
    https://github.com/OpenNeuroDatasets/ds003416.git DIR, then
    datalad get DIR/derivatives/prequal-v1.0.0)

preprocess: nothing. Of who has no mask beside the scan, one is computed; look at it.

Scans of one shell are in a file each, and one such acquisition is compared, by --acq. The default
is the one of which most people have two scans. Cohort II was scanned on several scanners (--cohort
cII), cohorts cI and cIII on one, repeatedly; cIV are children.
"""

from __future__ import annotations

import argparse
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import _benchmarks
import numpy as np
from numpy.typing import NDArray
from results import table, write_section
from retest import FWHM, SHARE, alike
from summary import interval

from qspace_nd import NoveltyModel, fit_scans, map_scans
from qspace_nd.errors import InputError, WorkError, listed
from qspace_nd.imaging.protocol import DEFAULT_OPTIONS, open_scans, protocol_of, read_scan
from qspace_nd.layouts.maps import MapFiles
from qspace_nd.layouts.names import parse_entities
from qspace_nd.registration.alignment import align
from qspace_nd.registration.images import Images
from qspace_nd.workflows.placing import look

# What was looked up: names as derivatives/prequal-v1.0.0/sub-cIIs00/ses-s1Ax1/dwi/
# sub-cIIs00_ses-s1Ax1_acq-b2000n96r25x25x25peAPP_run-107_dwi.{nii.gz,bval,bvec}, of which sub is
# cohort and number, ses the site, the scanner where a site has several, and the session there
# (s1Bx2, s3x1), acq the b-value, directions, voxel size in tenths of a mm and phase encoding; who
# was scanned how often (the README of the dataset). Some sessions have no image there.
# What is assumed: that a file of one shell holds its b=0 volumes too, and that masks, where there
# are some, are called as this program finds them.

SESSION = re.compile(r"s(?P<scanner>\d+[A-Z]?)x(?P<number>\d+)")
ACQUISITION = re.compile(r"b\d+n\d+")

SAME_SESSION, SAME_SCANNER, SCANNERS, PEOPLE = (
    "one session",
    "two sessions, one scanner",
    "two scanners",
    "two people, one scanner",
)
LEVELS = (SAME_SESSION, SAME_SCANNER, SCANNERS, PEOPLE)
FIGURES = ("r", "r, smoothed", "Dice")


@dataclass(frozen=True)
class Run:
    """A scan, and what its name says.

    Attributes
    ----------
    path : Path
    person, session, scanner : str
    acquisition : str
        b-value and number of directions: `b2000n96`.
    """

    path: Path
    person: str
    session: str
    scanner: str
    acquisition: str

    def level(self, other: Run) -> str:
        """How far apart two scans are."""
        if self.person != other.person:
            return PEOPLE
        if self.scanner != other.scanner:
            return SCANNERS
        return SAME_SESSION if self.session == other.session else SAME_SCANNER


def runs(dataset: Path, cohort: str) -> list[Run]:
    """The scans of a cohort, of all for an empty name.

    Raises
    ------
    InputError
        There is none.
    """
    found = []
    for path in sorted(dataset.glob("derivatives/prequal*/sub-*/ses-*/dwi/*_dwi.nii.gz")):
        entities = parse_entities(path)
        session = SESSION.fullmatch(entities.get("ses", ""))
        acquisition = ACQUISITION.match(entities.get("acq", ""))
        person = entities.get("sub", "")
        of_cohort = cohort in ("", person.partition("s")[0])  # cII of cIIs00
        if session and acquisition and of_cohort:
            found.append(Run(path, person, session[0], session["scanner"], acquisition[0]))
    if not found:
        raise InputError(
            f"{dataset} has no scan of cohort {cohort or 'any'}, derivatives/prequal-*/sub-*/ses-*/"
            f"dwi/*_dwi.nii.gz; load the derivatives as --help says."
        )
    return found


def chosen(found: Sequence[Run], acquisition: str | None) -> list[Run]:
    """The scans of one acquisition: of the one that most people have twice, unless it is named.

    Raises
    ------
    InputError
        There is none of that name, or nobody has it twice.
    """
    twice: Counter[str] = Counter()
    for (_, name), number in Counter((one.person, one.acquisition) for one in found).items():
        twice[name] += number > 1
    best = acquisition or max(twice, key=lambda name: twice[name])
    if not twice[best]:
        raise InputError(
            f"Nobody has two scans of the acquisition {best}; name another with --acq, of "
            f"{listed(sorted(twice))}."
        )
    return [one for one in found if one.acquisition == best]


@dataclass
class Retest:
    """Maps of people by models of others.

    Attributes
    ----------
    runs : list of Run
        Of one acquisition.
    folder : Path
    quick : bool
    refused : dict of Path to str
        Why scans were not mapped.
    """

    runs: list[Run]
    folder: Path
    quick: bool
    refused: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def scanner(self) -> str:
        """The scanner that the models are of: that of most people."""
        people = {(one.scanner, one.person) for one in self.runs}
        return Counter(scanner for scanner, _ in sorted(people)).most_common(1)[0][0]

    @cached_property
    def halves(self) -> tuple[list[str], list[str]]:
        """The people of that scanner in two halves; each is mapped by a model of the other.

        Raises
        ------
        InputError
            There are fewer than four people.
        """
        people = sorted({one.person for one in self.runs if one.scanner == self.scanner})
        if len(people) < 4:
            raise InputError(
                f"The scanner {self.scanner} has {len(people)} people; expected four or more, as "
                f"a model of some maps the others: choose another cohort or acquisition."
            )
        return people[::2], people[1::2]

    def pairs(self) -> Iterator[tuple[str, str, tuple[float, float, float]]]:
        """The level of each pair of scans, whose they are, and how alike their maps are."""
        for number, healthy in enumerate(self.halves):
            others = [one for one in self.runs if one.person not in healthy]
            if number:  # who was never on that scanner is in no half, and mapped once
                others = [one for one in others if one.person in self.halves[0]]
            yield from self._of_model(number, healthy, others)

    def _of_model(
        self, number: int, healthy: Sequence[str], others: Sequence[Run]
    ) -> Iterator[tuple[str, str, tuple[float, float, float]]]:
        folder = self.folder / f"model-{number}"
        first = {one.person: one for one in reversed(self.runs) if one.scanner == self.scanner}
        if not folder.exists():
            model = NoveltyModel(epochs=1 if self.quick else None)
            scans = [first[person].path for person in healthy]
            fit_scans(scans, model, folder, template=False, calibrate=False)
        mapped: dict[Run, tuple[MapFiles, Images]] = {}
        for run in others:
            try:
                (files,) = map_scans([run.path], folder, self.folder / f"maps-{number}")
            except (InputError, WorkError) as error:
                self.refused[run.path] = str(error)
                continue
            mapped[run] = files, shown(run.path, folder)
        for one, other in (*_within(list(mapped)), *self._between(list(mapped))):
            (files, images), (others_files, others_images) = mapped[one], mapped[other]
            motion = align(images, others_images)
            yield one.level(other), one.person, alike(files, others_files, motion)

    def _between(self, some: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
        """Each person's first scan on the models' scanner, with the next person's."""
        first = {one.person: one for one in reversed(some) if one.scanner == self.scanner}
        yield from pairwise(first[person] for person in sorted(first))


def _within(some: Sequence[Run]) -> Iterator[tuple[Run, Run]]:
    people: dict[str, list[Run]] = defaultdict(list)
    for one in some:
        people[one.person].append(one)
    for theirs in people.values():
        yield from combinations(theirs, 2)


def shown(path: Path, folder: Path) -> Images:
    """What of a scan is registered: its anisotropy, as for templates."""
    acquisition = NoveltyModel.load(folder).acquisition_
    assert acquisition is not None
    protocol = protocol_of(acquisition)
    (scan,) = open_scans([path], DEFAULT_OPTIONS)
    return look(read_scan(scan, protocol), protocol)[1]


def markdown(retest: Retest, command: str) -> str:
    """The section of RESULTS.md."""
    figures: dict[str, dict[str, list[tuple[float, float, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for level, person, alikeness in retest.pairs():
        figures[level][person].append(alikeness)
    rows = []
    for level in (one for one in LEVELS if one in figures):
        people = figures[level]
        means: dict[Any, NDArray[Any]] = {
            (level, person): np.mean(some, axis=0) for person, some in people.items()
        }
        cells = [f"{one.mean:.2f} [{one.low:.2f}, {one.high:.2f}]" for one in interval(means)]
        pairs = sum(map(len, people.values()))
        rows.append([level, str(len(people)), str(pairs), *cells])
    parts = [
        "## The same people twice, ds003416 (real scans)",
        f"`{command}`: `latent-distance` of scans of the acquisition "
        f"{retest.runs[0].acquisition}. Each half of the people of scanner {retest.scanner} is "
        f"mapped by a model of the other half on that scanner ({len(retest.halves[0])} and "
        f"{len(retest.halves[1])} people), whichever scanner the mapped scan is of. One map is "
        "brought to the other by an affine between their anisotropies. Spearman's r of the maps "
        f"and of the maps smoothed by {FWHM:g} mm, Dice of the clusters of the latter's "
        f"{SHARE:.0%} most novel voxels; the mean over people of the mean over their pairs, with "
        "its 95 % interval over people.",
        table(["", "people", "pairs", *FIGURES], rows),
    ]
    if retest.refused:
        lines = [
            f"- {path.name}: {why.replace(f'{path.parent}/', '')}"
            for path, why in retest.refused.items()
        ]
        parts.append("\n".join(["Not mapped:", "", *lines]))
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, metavar="DIR", help="the dataset with derivatives")
    parser.add_argument("--acq", metavar="NAME", help="acquisition to compare, as b2000n96")
    parser.add_argument("--cohort", default="", help="cI, cII, cIII or cIV alone")
    _benchmarks.add_options(parser)
    options = parser.parse_args(arguments)
    command = shlex.join(["python", "benchmarks/real/ds003416.py", *_benchmarks.told(arguments)])
    try:
        found = chosen(runs(options.dataset, options.cohort), options.acq)
        name = f"ds003416-{found[0].acquisition}{options.cohort and '-' + options.cohort}"
        text = markdown(Retest(found, options.cache / name, options.quick), command)
    except InputError as error:
        parser.error(str(error))
    print(text)
    write_section(_benchmarks.results(options), name, text)


if __name__ == "__main__":
    main()
