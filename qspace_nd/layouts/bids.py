"""BIDS datasets as inputs: whose scans are taken, by `participants.tsv` and the names' entities.

What belongs to a scan is found beside it as it is for any other file (`companions`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

from qspace_nd.errors import InputError, LabelError, ScanError, counted, listed
from qspace_nd.layouts.facts import read_facts
from qspace_nd.layouts.maps import MapRecord
from qspace_nd.layouts.names import (
    DESCRIPTION,
    PARTICIPANTS,
    files_below,
    is_image,
    is_subject,
    parse_entities,
    parse_name,
    stem,
)
from qspace_nd.layouts.pairing import lesions_among
from qspace_nd.layouts.participants import GROUP, UNKNOWN, Participants, read_participants
from qspace_nd.layouts.scans import finished

_log = logging.getLogger(__name__)

ENTITIES = ("ses", "task", "acq", "rec", "dir", "run", "echo", "part", "space", "desc")
"""What a name may say of a scan, and `where` may ask for, beside the participants' columns."""

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
        found = self._finished("dwi")
        self._tell_of_other_names()
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

    def images(self, suffix: str) -> list[Path]:
        """The chosen participants' images of another suffix, `T1w` for one, chosen as scans are.

        Raises
        ------
        ScanError
            There is none.
        """
        found = self._finished(suffix)
        if not found:
            conditions = f" where {' and '.join(self.where)}" if self.where else ""
            raise ScanError(
                f"{self.folder} has no image sub-*_{suffix}.nii.gz of the participants"
                f"{conditions}; expected one: name another suffix, or choose other participants."
            )
        return found

    def _finished(self, suffix: str) -> list[Path]:
        images = [image for image in self._images(suffix) if self.holds(image)]
        return finished(images, self._conditions)

    def healthy_scans(self) -> list[Path]:
        """The same, of people who are to be taken as healthy.

        Raises
        ------
        InputError
            Nobody was chosen, and not everybody is known to be healthy: the participants are of
            several groups, or the group of some is not known.
        """
        scans = self.scans()
        if self.participants or any(map(self._conditions.__contains__, self._groupings)):
            return scans
        labels = sorted({parse_entities(scan)["sub"] for scan in scans})
        doubt = self._table.doubt(labels)
        if doubt is not None:
            why, condition = doubt
            where = f"--where {condition} for instance, or with " if condition else ""
            raise InputError(
                f"{self.folder} {why}; a model is fitted on healthy people: choose them, with "
                f"{where}--participant-label, or, if all of them are healthy, name the folder "
                f"itself without --bids."
            )
        everybody = f"all {counted(len(labels), 'participant')} of {self.folder}"
        if self._groupings:
            group = self._table.value(labels[0], self._groupings[0])
            _log.info(f"Taken as healthy: {everybody}, of the group {group}.")
        else:
            _log.warning(f"Taken as healthy: {everybody}, as none was chosen and no group is told.")
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
        asked = {key: v for key, v in self._conditions.items() if not self._table.has(key)}
        return entities.get("sub") in self._chosen and all(
            entities.get(key, UNKNOWN) in values for key, values in asked.items()
        )

    # --- Participants

    @cached_property
    def _chosen(self) -> list[str]:
        """The labels of the participants that are meant, sorted."""
        images = self._files(self.folder)
        subjects = {entities["sub"] for entities in map(parse_entities, images) if entities}
        folders = {path.name for path in self.folder.iterdir() if is_subject(path.name)}
        subjects |= {name.removeprefix("sub-") for name in folders} | {*self._table.labels}
        everybody = sorted(subjects)
        named = [label.removeprefix("sub-") for label in self.participants]
        unknown = [label for label in named if label not in everybody]
        if unknown:
            raise InputError(
                f"{self.folder} has no participant sub-{unknown[0]}; choose among "
                f"{listed([f'sub-{label}' for label in everybody], _NAMED)}."
            )
        chosen = [label for label in everybody if not named or label in named]
        for key, values in self._conditions.items():
            if self._table.has(key):
                told = {label: self._table.value(label, key) for label in everybody}
                self._require_known(f"participant with {key}", values, told.values())
                if unsure := self._table.contradicted(key):
                    _log.warning(
                        f"{self._table.path} says two things of the {key} of "
                        f"{listed([f'sub-{label}' for label in unsure])}, in several rows: it is "
                        f"taken as not known, {UNKNOWN}."
                    )
                wanted = set(map(str.casefold, values))
                chosen = [label for label in chosen if told[label].casefold() in wanted]
        if not chosen:
            raise InputError(
                f"{self.folder} has no participant that is both named and has "
                f"{' and '.join(self.where)}; loosen --participant-label or --where."
            )
        return chosen

    def _require_known(self, what: str, values: Iterable[str], there: Iterable[str]) -> None:
        there = sorted(set(there))
        for value in values:
            if value.casefold() not in map(str.casefold, there):
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
                    f"--where {condition!r} is no condition; give KEY=VALUE, {GROUP}=control for "
                    f"instance."
                )
            columns = [name for name in self._table.columns if name.casefold() == key.casefold()]
            if not columns and key not in ENTITIES:
                table = self._table.path
                absent = f"no {PARTICIPANTS}" if table is None else f"no column {key} in {table}"
                raise InputError(
                    f"--where {condition} cannot be told: there is {absent}, and {key} is no "
                    f"entity of a scan's name; choose among "
                    f"{listed((*sorted(self._table.columns), *ENTITIES), _NAMED)}."
                )
            conditions.setdefault(next(iter(columns), key), []).append(value)
        return conditions

    @cached_property
    def _table(self) -> Participants:
        _require_dataset(self.folder)
        return read_participants(self.folder)

    @cached_property
    def _groupings(self) -> list[str]:
        return self._table.groupings()

    # --- Files

    def _images(self, *suffixes: str, derivatives: bool = False) -> list[Path]:
        """The subjects' images of these suffixes, by name; hidden files and sources left out."""
        _require_dataset(self.folder)
        described = self.folder.glob(f"derivatives/*/{DESCRIPTION}")
        folders = [self.folder, *sorted(path.parent for path in described if derivatives)]
        images = chain.from_iterable(map(self._files, folders))
        return [image for image in images if parse_entities(image) and _suffix(image) in suffixes]

    def _files(self, folder: Path) -> list[Path]:
        if folder not in self._listed:
            self._listed[folder] = [path for path in files_below(folder) if is_image(path)]
        return self._listed[folder]

    @cached_property
    def _listed(self) -> dict[Path, list[Path]]:
        return {}

    def _tell_of_other_names(self) -> None:
        """Warn of scans that are not found, as their names are not those of a dataset."""
        scans = [path for path in self._files(self.folder) if stem(path).endswith("_dwi")]
        names = [path.name for path in scans if not parse_entities(path)]
        if names:
            _log.warning(
                f"Passed over in {self.folder}, as these are no BIDS names, with a hyphen or an "
                f"underscore in a label for instance: {listed(names)}."
            )


def _suffix(image: Path) -> str:
    parsed = parse_name(stem(image))
    return "" if parsed is None else parsed.suffix


def _require_dataset(folder: Path) -> None:
    path = folder / DESCRIPTION
    what = "is no folder"
    if folder.is_dir():
        what = f"has no {DESCRIPTION}"
    if path.is_file():
        try:
            read_facts(path)
            return
        except ValueError as error:
            what = f"has a {DESCRIPTION} that is no JSON object ({error})"
    raise InputError(
        f"{folder} is not a BIDS dataset, as it {what}; name its root, or give the scans "
        f"themselves instead of --bids."
    )
