"""Novelty maps as files: their names, their sidecars, writing them and finding them again."""

from __future__ import annotations

import json
import os
import reprlib
from collections.abc import Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from qspace_nd.errors import InputError, ScanError
from qspace_nd.layouts.companions import ScanFiles
from qspace_nd.layouts.derivatives import locate, uri_of
from qspace_nd.layouts.facts import is_name, read_facts
from qspace_nd.layouts.names import (
    IMAGE_SUFFIXES,
    ending,
    identity,
    parse_entities,
    require_here,
    stem,
)
from qspace_nd.system.writing import replacing

# Entities that tell a derivative from its source, in their place in a BIDS name.
_OWN_ENTITIES = ("model", "param", "desc")


@dataclass(frozen=True)
class MapFiles:
    """Where the novelty maps of one scan go.

    Attributes
    ----------
    maps : dict of str to Path
        The map of each score, a NIfTI file.
    mask : Path
        The mask that was used.
    dataset : Path or None
        The BIDS derivatives dataset that they belong to; the mask has a sidecar there too.
    smoothed : dict of str to Path
        The smoothed map of each score; empty where none is wanted.
    residual : Path or None
        How far the signal was from its fit in spherical harmonics, where there was one.
    deviations : dict of str to Path
        How far each of some quantities is from the healthy; empty where that is not wanted.
    neglogp, clusters : dict of str to Path
        What the map of each score means by healthy people's, and its clusters, whose table lies
        beside them (`table_path`); of scores that the model is calibrated for.
    regions : Path or None
        The region of an atlas that each voxel lies in, a label image whose names lie in the table
        beside it (`table_path`), where an atlas was given.
    pictures : dict of str to tuple of Path
        The map of each score as PNG, and as PDF where that is wanted.
    """

    maps: dict[str, Path]
    mask: Path
    dataset: Path | None = None
    smoothed: dict[str, Path] = field(default_factory=dict)
    residual: Path | None = None
    deviations: dict[str, Path] = field(default_factory=dict)
    neglogp: dict[str, Path] = field(default_factory=dict)
    clusters: dict[str, Path] = field(default_factory=dict)
    regions: Path | None = None
    pictures: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def paths(self) -> list[Path]:
        """Every file: the maps, their mask and their sidecars."""
        maps = [*self.maps.values(), *self.smoothed.values(), *self.deviations.values()]
        maps += [] if self.residual is None else [self.residual]
        labels = [*self.clusters.values(), *([] if self.regions is None else [self.regions])]
        maps += [*self.neglogp.values(), *labels]
        described = maps if self.dataset is None else [*maps, self.mask]
        tables = map(table_path, labels)
        pictures = chain.from_iterable(self.pictures.values())
        return [*maps, self.mask, *map(sidecar_path, described), *tables, *pictures]

    def with_smoothed(self) -> MapFiles:
        """The same, and a smoothed map beside each map."""
        smoothed = {score: _name_smoothed(path) for score, path in self.maps.items()}
        return replace(self, smoothed=smoothed)

    def with_significance(self, scores: Sequence[str]) -> MapFiles:
        """The same, and what the maps of these scores mean by healthy people's."""
        maps = {score: self.maps[score] for score in scores}
        return replace(
            self,
            neglogp={score: _name_neglogp(path) for score, path in maps.items()},
            clusters={score: _name_clusters(path) for score, path in maps.items()},
        )

    def with_pictures(self, *, pdf: bool = False) -> MapFiles:
        """The same, and a picture beside each map."""
        kinds = (".png", ".pdf") if pdf else (".png",)
        pictures = {
            score: tuple(picture_path(path, kind) for kind in kinds)
            for score, path in self.maps.items()
        }
        return replace(self, pictures=pictures)

    def with_residual(self) -> MapFiles:
        """The same, and the residual beside the mask."""
        return replace(self, residual=self._beside("model-sh_param-residual_dwimap", "residual"))

    def with_regions(self) -> MapFiles:
        """The same, and the regions of an atlas beside the mask."""
        return replace(self, regions=self._beside("desc-regions_dseg", "regions"))

    def with_deviations(self, names: Sequence[str]) -> MapFiles:
        """The same, and the deviation of each quantity beside the mask."""
        deviations = {
            name: self._beside(f"model-tensor_param-{name}Deviation_dwimap", f"deviation-{name}")
            for name in names
        }
        return replace(self, deviations=deviations)

    def _beside(self, entities: str, plain: str) -> Path:
        """The path of another image of the scan, by what BIDS calls it and what we do."""
        name, bids, _ = stem(self.mask).rpartition("_desc-brain_mask")
        own = f"{name}_{entities}" if bids else f"{stem(self.mask).removesuffix('_mask')}_{plain}"
        return self.mask.with_name(own + ending(self.mask))


@dataclass(frozen=True)
class MapRecord:
    """What is known of a novelty map from its sidecar and its name.

    Attributes
    ----------
    path : Path
        The map.
    score : str
        Its score and what that was told, or its name where there is no sidecar.
    patient : str
        What to call the patient.
    source : str
        What the map was made of: maps of one scan share it.
    scan, mask : Path or None
        The scan and the mask that were used, where they still exist.
    latents : int or None
        Of the model.
    neglogp : Path or None
        What the map means by healthy people's, where that is beside it.
    forming_share : float or None
        The share of healthy voxels above which its clusters were formed.
    """

    path: Path
    score: str
    patient: str
    source: str
    scan: Path | None
    mask: Path | None
    latents: int | None
    neglogp: Path | None = None
    forming_share: float | None = None


def name_maps(scans: Sequence[ScanFiles], output: Path, scores: Sequence[str]) -> list[MapFiles]:
    """Name the maps of each of `scans`.

    An `output` that ends in .nii or .nii.gz names the map of a single scan; any other is a folder,
    in which BIDS scans get BIDS derivatives' names and others their own name in front.

    Raises
    ------
    InputError
        `output` names a file, but there are several scans, or two scans would get one name.
    """
    if names_a_file(output):
        if len(scans) > 1:
            raise InputError(
                f"{output} names one file, but there are {len(scans)} scans to map; name a folder "
                f"with -o."
            )
        return [_name_plain(output.parent, stem(output), ending(output), scores)]
    files = [_name_in_folder(scan, output, scores) for scan in scans]
    taken: dict[Path, ScanFiles] = {}
    for scan, names in zip(scans, files, strict=True):
        other = taken.setdefault(names.mask, scan)
        if other is not scan:
            raise InputError(
                f"The maps of {other.image} and {scan.image} would have one name, {names.mask}; "
                f"map them into two folders."
            )
    return files


def names_a_file(output: Path) -> bool:
    """Whether an output names the map of a single scan, not a folder."""
    return output.name.lower().endswith(IMAGE_SUFFIXES)


def sidecar_path(image: Path) -> Path:
    """The JSON file beside an image."""
    return image.with_name(stem(image) + ".json")


def table_path(image: Path) -> Path:
    """The table beside an image of clusters."""
    return image.with_name(stem(image) + ".tsv")


def picture_path(image: Path, kind: str = ".png") -> Path:
    """The picture of a map, beside it."""
    return image.with_name(stem(image) + kind)


def title_of(path: Path, facts: Mapping[str, Any], directed: Container[str]) -> str:
    """What stands above the picture of the map at `path`, of which its sidecar says `facts`.

    `directed` are the scores that look for a change (see `read_record`).
    """
    return f"{patient_of(path, facts)}, {_label(path, facts, directed)}"


def write_sidecar(image: Path, facts: Mapping[str, Any], sources: Sequence[Path]) -> None:
    """Write the facts about an image, and what it was made of, into the JSON file beside it."""
    named = [uri_of(source, image) for source in sources]
    _write_json(sidecar_path(image), {**facts, "Sources": named})


def read_sidecar(image: Path) -> dict[str, Any]:
    """Read the facts about an image; none where there is no JSON file beside it.

    Raises
    ------
    ScanError
        The file is not a JSON object, or not here.
    """
    path = sidecar_path(image)
    require_here([path])
    if not path.is_file():
        return {}
    try:
        return read_facts(path)
    except ValueError as error:
        raise ScanError(f"{path} is not a JSON sidecar ({error}); map the scan again.") from error


def read_record(path: Path, directed: Container[str] = ()) -> MapRecord:
    """Read what is known of a novelty map.

    Parameters
    ----------
    path : Path
    directed : container of str
        The scores that look for a change: sidecars of others may name one too, for the maps that
        were made beside them.

    Raises
    ------
    ScanError
        Its sidecar is not JSON, or has facts of another kind than `map` writes.
    """
    facts = read_sidecar(path)
    _require_kinds(path, facts)
    sources = [locate(source, path) for source in facts.get("Sources") or []]
    mask = path.parent / (facts.get("Mask") or f"{stem(path)}_mask{ending(path)}")
    neglogp = _name_neglogp(path)
    return MapRecord(
        path=path,
        score=_label(path, facts, directed),
        patient=patient_of(path, facts),
        source=os.path.realpath(next(filter(None, sources), path)),
        scan=next((source for source in sources if source and _is_file(source)), None),
        mask=mask if mask.is_file() else None,
        latents=facts.get("Latents"),
        neglogp=neglogp if neglogp.is_file() else None,
        forming_share=facts.get("ClusterFormingShare"),
    )


def patient_of(path: Path, facts: Mapping[str, Any]) -> str:
    """What to call the patient: by a BIDS name, or as the sidecar says."""
    entities = parse_entities(path)
    kept = identity(entities).keys() | ({"space"} & entities.keys())
    named = "_".join(f"{key}-{value}" for key, value in entities.items() if key in kept)
    return named or facts.get("Patient") or stem(path)


def _label(path: Path, facts: Mapping[str, Any], directed: Container[str]) -> str:
    """What tables and figures call a map's score: what it was told goes with its name."""
    words = [facts.get("Score") or stem(path)]
    if words[0] in directed and facts.get("Toward"):
        words.append(f"toward {facts['Toward']}")
    if facts.get("PlaceNotUsed"):
        words.append("without the place")
    if facts.get("SmoothingFWHM"):
        words.append(f"{facts['SmoothingFWHM']:g} mm")
    return ", ".join(words)


_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "Sources": (
        "a list of paths",
        lambda v: isinstance(v, list) and all(isinstance(s, str) and "\0" not in s for s in v),
    ),
    "Score": ("a name", is_name),
    "Patient": ("a name", is_name),
    "Mask": ("the name of a file beside it", is_name),
    "Toward": ("a change", is_name),
    "PlaceNotUsed": ("words", lambda v: isinstance(v, str)),
    "Latents": ("a whole number", lambda v: type(v) is int and 0 < v < 1e6),
    "Neighbours": ("a whole number", lambda v: type(v) is int and 0 < v < 1e6),
    "Search": ("a name", is_name),
    "LeftOut": ("a name", is_name),
    "LevelAboveHealthy": ("a number", lambda v: type(v) in (int, float)),
    "HealthyLevels": (
        "numbers",
        lambda v: isinstance(v, list) and all(type(one) in (int, float) for one in v),
    ),
    "UnlikeModel": (
        "a list of words",
        lambda v: isinstance(v, list) and all(isinstance(one, str) for one in v),
    ),
    "ClusterFormingShare": (
        "a share between 0 and 1",
        lambda v: type(v) in (int, float) and 0 < v < 1,
    ),
    "SmoothingFWHM": ("a number", lambda v: type(v) in (int, float) and 0 < v < 1e6),
}
"""What the facts that are made use of may be, in words and as a test."""


def _require_kinds(image: Path, facts: Mapping[str, Any]) -> None:
    for key, (kind, is_kind) in _KINDS.items():
        value = facts.get(key)
        if value is not None and not is_kind(value):
            found = reprlib.repr(value)
            raise ScanError(
                f"{sidecar_path(image)} has as {key} {found}; expected {kind}: correct it, or map "
                f"the scan again."
            )


def _is_file(path: Path) -> bool:
    with suppress(OSError):  # a name that is too long for one
        return path.is_file()
    return False


def _name_plain(folder: Path, name: str, suffix: str, scores: Sequence[str]) -> MapFiles:
    maps = {score: folder / f"{name}_{score}{suffix}" for score in scores}
    if len(scores) == 1:
        maps = {scores[0]: folder / f"{name}{suffix}"}
    return MapFiles(maps, folder / f"{name}_mask{suffix}")


def _name_in_folder(scan: ScanFiles, folder: Path, scores: Sequence[str]) -> MapFiles:
    if "sub" not in scan.entities:
        return _name_plain(folder, f"{scan.name}_novelty", ".nii.gz", scores)
    kept = {key: value for key, value in scan.entities.items() if key not in _OWN_ENTITIES}
    prefix = "_".join(f"{key}-{value}" for key, value in kept.items())
    sessions = [f"ses-{kept['ses']}"] if "ses" in kept else []
    place = folder.joinpath(f"sub-{kept['sub']}", *sessions, "dwi")
    maps = {
        score: place / f"{prefix}_model-vae_param-{_camel_case(score)}_dwimap.nii.gz"
        for score in scores
    }
    return MapFiles(maps, place / f"{prefix}_desc-brain_mask.nii.gz", dataset=folder)


def _name_smoothed(path: Path) -> Path:
    name, bids, plain = stem(path).rpartition("_dwimap")
    smoothed = f"{name}_desc-smoothed{bids}" if bids else f"{plain}_smoothed"
    return path.with_name(smoothed + ending(path))


def _name_neglogp(path: Path) -> Path:
    name, bids, plain = stem(path).rpartition("_dwimap")
    return path.with_name((f"{name}Neglogp{bids}" if bids else f"{plain}_neglogp") + ending(path))


def _name_clusters(path: Path) -> Path:
    name, bids, plain = stem(path).rpartition("_dwimap")
    own = f"{name}_desc-clusters_dseg" if bids else f"{plain}_clusters"
    return path.with_name(own + ending(path))


def _camel_case(score: str) -> str:
    first, *rest = score.split("-")
    return first + "".join(word.capitalize() for word in rest)


def _write_json(path: Path, facts: Mapping[str, Any]) -> None:
    with replacing(path) as temporary:
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        temporary.write_text(text, "utf-8", "backslashreplace")  # names that are not UTF-8
