"""BIDS datasets as inputs: whose scans are taken, by `participants.tsv` and the names' entities.

What belongs to a scan is found beside it as it is for any other file (`companions`).
"""

from __future__ import annotations

import csv
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qspace_nd.errors import InputError, LabelError, ScanError, listed
from qspace_nd.layouts.maps import MapRecord
from qspace_nd.layouts.names import DESCRIPTION, IMAGE_SUFFIXES, parse_entities
from qspace_nd.layouts.pairing import lesions_among

_log = logging.getLogger(__name__)

ENTITIES = ("ses", "task", "acq", "rec", "dir", "run", "echo", "part", "space", "desc")
"""What a name may say of a scan, and `where` may ask for, beside the participants' columns."""

_PARTICIPANTS = "participants.tsv"
_GROUP = "group"
_NAMED = 12  # choices that a message names


@dataclass(frozen=True)
class Dataset:
    """A raw or derivative BIDS dataset, and which of its participants and scans are meant.

    Attributes
    ----------
    folder : Path
    participants : sequence of str
        Labels, with or without `sub-`; empty for all.
    where : sequence of str
        Conditions KEY=VALUE: a column of `participants.tsv`, or an entity of a scan's name. Several
        values of one key are alternatives, all keys must hold.

    Every method raises `InputError` where the folder is no BIDS dataset, a condition is malformed,
    or there is no such participant, column, entity or value.
    """

    folder: Path
    participants: Sequence[str] = ()
    where: Sequence[str] = ()

    def scans(self) -> list[Path]:
        """The diffusion scans of the chosen participants.

        Of a derivative dataset those with `desc-preproc`, where it has such, as QSIPrep has.

        Raises
        ------
        ScanError
            There is none, or none of a participant who was named.
        """
        images = [image for image in self._images("dwi") if self._is_usable(image)]
        found = [image for image in images if self.holds(image)]
        with_scans = {parse_entities(image)["sub"] for image in found}
        without = [f"sub-{label}" for label in self._chosen if label not in with_scans]
        conditions = f" where {' and '.join(self.where)}" if self.where else ""
        if not found or (self.participants and without):
            whose = f" of {', '.join(without)}" if found or self.participants else ""
            raise ScanError(
                f"{self.folder} has no diffusion scan{whose}{conditions}; expected "
                f"sub-*/[ses-*/]dwi/*_dwi.nii.gz: choose other participants, or another dataset."
            )
        if without:
            _log.info(f"Without a diffusion scan{conditions}: {', '.join(without)}")
        return found

    def healthy_scans(self) -> list[Path]:
        """The same, of people who are to be taken as healthy.

        Raises
        ------
        InputError
            The participants are of several groups, and none was chosen.
        """
        scans = self.scans()
        subjects = {parse_entities(scan)["sub"] for scan in scans}
        groups = Counter(self._table.get(label, {}).get(_GROUP) for label in sorted(subjects))
        people_chosen = self.participants or self._columns & {*self._conditions}
        if len(groups) > 1 and not people_chosen:
            sizes = ", ".join(f"{group or 'n/a'} ({size})" for group, size in groups.items())
            raise InputError(
                f"{self.folder} has participants of several groups: {sizes}; a model is fitted on "
                f"healthy people: name their group, with --where {_GROUP}={next(iter(groups))} for "
                f"instance."
            )
        return scans

    def lesions(self) -> list[Path]:
        """The lesion masks of the chosen participants, in the dataset and in its derivatives.

        Raises
        ------
        LabelError
            There is none.
        """
        chosen = set(self._chosen)
        images = self._images("mask", "roi", "dseg", derivatives=True)
        labels = [
            image for image in lesions_among(images) if parse_entities(image).get("sub") in chosen
        ]
        if not labels:
            raise LabelError(
                f"{self.folder} and its derivatives have no lesion mask of the participants; "
                f"expected *_desc-lesion_mask.nii.gz or *_label-lesion_mask.nii.gz, in derivatives "
                f"that have a {DESCRIPTION}: or name the files with --labels."
            )
        return labels

    def maps_among(self, records: Iterable[MapRecord]) -> list[Path]:
        """The maps that are of scans that are meant.

        Raises
        ------
        ScanError
            There is none.
        """
        maps = [record.path for record in records if self.holds(record.path)]
        if not maps:
            raise ScanError(
                f"None of the maps is, by its name, of a chosen participant of {self.folder}; map "
                f"them with qspace-nd map --bids, or choose others."
            )
        return maps

    def holds(self, image: Path) -> bool:
        """Whether an image, or a map made of it, is of a participant and a scan that are meant."""
        entities = parse_entities(image)
        asked = {key: v for key, v in self._conditions.items() if key not in self._columns}
        return entities.get("sub") in self._chosen and all(
            entities.get(key) in values for key, values in asked.items()
        )

    # --- Participants

    @cached_property
    def _chosen(self) -> list[str]:
        """The labels of the participants that are meant, sorted."""
        everybody = sorted({*self._layout.get_subjects(), *self._table})
        named = [label.removeprefix("sub-") for label in self.participants]
        unknown = [label for label in named if label not in everybody]
        if unknown:
            raise InputError(
                f"{self.folder} has no participant sub-{unknown[0]}; choose among "
                f"{listed([f'sub-{label}' for label in everybody], _NAMED)}."
            )
        chosen = [label for label in everybody if not named or label in named]
        for key, values in self._conditions.items():
            if key in self._columns:
                there = {self._table.get(label, {}).get(key) or "n/a" for label in everybody}
                self._require_known(f"participant with {key}", values, there)
                chosen = [c for c in chosen if (self._table.get(c, {}).get(key) or "n/a") in values]
        if not chosen:
            raise InputError(
                f"{self.folder} has no participant that is both named and has "
                f"{' and '.join(self.where)}; loosen --participant-label or --where."
            )
        return chosen

    def _require_known(self, what: str, values: Iterable[str], there: Iterable[str]) -> None:
        there = sorted(there)
        for value in values:
            if value not in there:
                raise InputError(
                    f"{self.folder} has no {what}={value}; choose among {listed(there, _NAMED)}."
                )

    @cached_property
    def _conditions(self) -> Mapping[str, list[str]]:
        conditions: dict[str, list[str]] = {}
        for condition in self.where:
            key, equals, value = condition.partition("=")
            if not (key and equals and value):
                raise InputError(
                    f"--where {condition!r} is no condition; give KEY=VALUE, {_GROUP}=control for "
                    f"instance."
                )
            if key not in self._columns and key not in ENTITIES:
                table = self._table_path
                columns = f"no {_PARTICIPANTS}" if table is None else f"no column {key} in {table}"
                raise InputError(
                    f"--where {condition} cannot be told: there is {columns}, and {key} is no "
                    f"entity of a scan's name; choose among "
                    f"{listed((*sorted(self._columns), *ENTITIES), _NAMED)}."
                )
            conditions.setdefault(key, []).append(value)
        return conditions

    @cached_property
    def _table_path(self) -> Path | None:
        """The participants' table: of a derivative dataset perhaps that of the raw one around."""
        folder = self.folder.absolute()
        around = [folder.parents[1]] if folder.parent.name == "derivatives" else []
        tables = (place / _PARTICIPANTS for place in (folder, *around))
        return next((table for table in tables if table.is_file()), None)

    @cached_property
    def _table(self) -> dict[str, dict[str, str]]:
        """The row of each participant, by label; empty where there is no table."""
        path = self._table_path
        if path is None:
            return {}
        try:
            with path.open(encoding="utf-8-sig", newline="") as stream:
                rows = list(csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE))
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(
                f"{path} cannot be read ({error}); expected a table in UTF-8, its columns divided "
                f"by tabs."
            ) from error
        if any("participant_id" not in row for row in rows):
            raise InputError(
                f"{path} has no column participant_id; expected one, with sub-01 and so on."
            )
        return {str(row["participant_id"]).removeprefix("sub-"): row for row in rows}

    @cached_property
    def _columns(self) -> set[str]:
        rows = self._table.values()
        return {key for row in rows for key in row if key and key != "participant_id"}

    # --- Files

    def _images(self, *suffixes: str, derivatives: bool = False) -> list[Path]:
        layout = self._with_derivatives if derivatives else self._layout
        names = layout.get(
            suffix=list(suffixes), extension=list(IMAGE_SUFFIXES), return_type="filename"
        )
        start = self.folder.absolute()
        # As the folder was named: messages and sidecars are to say what the user said.
        return sorted(self.folder / Path(name).relative_to(start) for name in map(str, names))

    def _is_usable(self, image: Path) -> bool:
        """Whether it is what was preprocessed, of a derivative, and no phase image."""
        entities, asked = parse_entities(image), self._conditions
        wanted = {"desc": (None, "preproc"), "part": (None, "mag")}
        return all(key in asked or entities.get(key) in values for key, values in wanted.items())

    @cached_property
    def _layout(self) -> Any:
        return _index(self.folder, derivatives=False)

    @cached_property
    def _with_derivatives(self) -> Any:
        return _index(self.folder, derivatives=True)


def _index(folder: Path, *, derivatives: bool) -> Any:
    """The dataset's files, indexed by pybids, which takes its time to be imported."""
    _require_dataset(folder)
    from bids import BIDSLayout
    from bids.exceptions import PyBIDSError
    from bids.layout import BIDSLayoutIndexer

    indexer = BIDSLayoutIndexer(validate=False, index_metadata=False)
    with warnings.catch_warnings(action="ignore"):  # of derivatives that are none, and its own age
        try:
            return BIDSLayout(
                folder.absolute(), derivatives=derivatives, validate=False, indexer=indexer
            )
        except (PyBIDSError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{folder} cannot be read as a BIDS dataset ({reason}); give the scans themselves "
                f"instead of --bids."
            ) from error


def _require_dataset(folder: Path) -> None:
    path = folder / DESCRIPTION
    what = "is no folder"
    if folder.is_dir():
        what = f"has no {DESCRIPTION}"
    if path.is_file():
        what = f"has a {DESCRIPTION} that is no JSON object"
        try:
            if isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                return
        except (ValueError, OSError):
            pass
    raise InputError(
        f"{folder} is not a BIDS dataset, as it {what}; name its root, or give the scans "
        f"themselves instead of --bids."
    )
