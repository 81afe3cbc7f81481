"""Which images of several contrasts are of one person: the channels of one stack, by their names.

By BIDS entities where all names are BIDS, else by what the `*` of each pattern stands for.
Images are not opened here.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qspace_nd.errors import InputError, ScanError, counted
from qspace_nd.layouts.bids import Dataset
from qspace_nd.layouts.companions import Folders, describe_scan
from qspace_nd.layouts.names import (
    absolute,
    ending,
    is_file_or_absent,
    is_image,
    is_mask,
    is_scan,
    parse_entities,
    stem,
)

MASK = "mask"
"""What messages call the masks by."""

_CARD = re.compile(r"\*\*/|\*+|\?|\[!?\]?[^\]]*\]")
_WILD = re.compile(rf"(?:{_CARD.pattern})+")
_WORDS = re.compile(r"[/_.]")
_WHO = ("sub", "ses")
"""Entities that images of one person share; in others a contrast may differ, as in `acq`."""


@dataclass(frozen=True)
class Contrasts:
    """The images of one person, or of one visit.

    Attributes
    ----------
    name : str
        What to call their stack; no other has the same.
    images : dict of str to Path
        By the names of the channels, in order.
    mask : Path or None
        The brain mask.
    """

    name: str
    images: dict[str, Path]
    mask: Path | None = None


@dataclass(frozen=True)
class _Found:
    """An image, and what tells it from the others of its channel."""

    path: Path
    stands_for: str = ""
    words: str = ""  # the same, to the ends of the words that it is part of


def match_patterns(
    channels: Mapping[str, Sequence[Path]], mask: Path | None = None
) -> list[Contrasts]:
    """Find the images of each channel, and which of them are of one person.

    Parameters
    ----------
    channels : dict of str to sequence of Path
        Paths, or patterns as shells have them, of each channel; `**` stands for folders.
    mask : Path, optional
        A path or a pattern of the masks, in place of those beside the images.

    Raises
    ------
    ScanError
        A pattern matches no image, or a channel has no image of somebody, or two.
    """
    found = {name: _expand(name, patterns) for name, patterns in channels.items()}
    return _match(found, mask)


def match_suffixes(
    dataset: Dataset, suffixes: Sequence[str], mask: Path | None = None
) -> list[Contrasts]:
    """Find the images of a BIDS dataset whose suffixes are the channels.

    Raises
    ------
    ScanError
        See `match_patterns`.
    InputError
        See `Dataset`.
    """
    found = {name: [_Found(path) for path in dataset.images(name)] for name in suffixes}
    return _match(found, mask)


# --- Who is whose


def _match(found: Mapping[str, Sequence[_Found]], mask: Path | None) -> list[Contrasts]:
    masks = [] if mask is None else _expand(MASK, [mask])
    every = [one.path for images in (*found.values(), masks) for one in images]
    by_entities = all(map(parse_entities, every))
    key = _by_entities if by_entities else _by_pattern
    keyed = {name: key(name, images) for name, images in found.items()}
    first, *others = keyed
    for other in others:
        _require_same(first, keyed[first], other, keyed[other])
    masked = key(MASK, masks)
    if mask is not None:
        _require_same(first, keyed[first], MASK, masked)
    folders = Folders()
    stacks = []
    for who in keyed[first]:
        images = {name: keyed[name][who] for name in keyed}
        paths = {name: one.path for name, one in images.items()}
        name = _name_bids(paths.values()) if by_entities else _name_plain([*images.values()])
        own = masked[who].path if mask is not None else _mask_beside(paths.values(), folders)
        stacks.append(Contrasts(_as_scan(name), paths, own))
    return stacks


def _by_entities(channel: str, images: Sequence[_Found]) -> dict[str, _Found]:
    """Key images by their entities, but those in which the whole channel agrees."""
    entities = [set(parse_entities(one.path).items()) for one in images]
    common = set.intersection(*entities) if entities else set()
    shared = {(key, value) for key, value in common if key not in _WHO}
    keys = [sorted(own - shared, key=lambda item: (item[0] != "sub", item)) for own in entities]
    return _keyed(channel, images, ["_".join(map("-".join, own)) for own in keys])


def _by_pattern(channel: str, images: Sequence[_Found]) -> dict[str, _Found]:
    return _keyed(channel, images, [one.stands_for for one in images])


def _keyed(channel: str, images: Sequence[_Found], keys: Sequence[str]) -> dict[str, _Found]:
    keyed: dict[str, _Found] = {}
    for key, image in zip(keys, images, strict=True):
        other = keyed.setdefault(key, image)
        if other is not image:
            raise ScanError(
                f"{other.path} and {image.path} are both the {channel} of one person by their "
                f"names; expected one image: narrow the pattern, or move one of them."
            )
    return keyed


def _require_same(
    first: str, one: Mapping[str, _Found], second: str, other: Mapping[str, _Found]
) -> None:
    for keyed, lacking, without in ((one, second, other), (other, first, one)):
        alone = [(key, image.path) for key, image in keyed.items() if key not in without]
        if alone:
            key, path = alone[0]
            told = f", {key!r} by its name" if key else ""
            more = f", nor have {counted(len(alone) - 1, 'other')}" if len(alone) > 1 else ""
            raise ScanError(
                f"{path} has no {lacking} of the same person{told}{more}: found "
                f"{counted(len(one), 'image')} of {first} and {len(other)} of {second}, expected "
                f"one of each for everybody, with the same BIDS entities, or the same in place of "
                f"*; add what is missing, or narrow the patterns."
            )


def _mask_beside(images: Iterable[Path], folders: Folders) -> Path | None:
    """The mask of the first image that has one: all are on one grid."""
    found = (describe_scan(image, folders).mask for image in images)
    return next((mask for mask in found if mask is not None), None)


# --- What a stack is called


def _name_bids(images: Iterable[Path]) -> str:
    """What the names of all channels say."""
    first, *others = (parse_entities(image) for image in images)
    shared = [item for item in first.items() if all(item in one.items() for one in others)]
    return "_".join(f"{key}-{value}" for key, value in shared)


def _name_plain(images: Sequence[_Found]) -> str:
    if len({one.words for one in images}) == 1 and images[0].words:
        return images[0].words
    return images[0].stands_for or _common_name([one.path for one in images])


def _common_name(images: Sequence[Path]) -> str:
    """The words that all file names have, or else the folder's name: of one person alone."""
    first, *others = (stem(image).split("_") for image in images)
    name = _joined(word for word in first if all(word in one for one in others))
    return name or absolute(images[0]).parent.name or "stack"


def _as_scan(name: str) -> str:
    """The same, unless a file of that name would be taken for a mask or a map, as `01_T1`."""
    return name if is_scan(Path(f"{name}.nii.gz")) else f"{name}_contrasts"


# --- Patterns


def _expand(channel: str, patterns: Sequence[Path]) -> list[_Found]:
    """Find the images of a channel, sorted."""
    found: list[_Found] = []
    plain: list[Path] = []
    for pattern in patterns:
        if is_file_or_absent(pattern) or not _WILD.search(str(pattern)):
            plain.append(pattern)
        else:
            found += _expand_pattern(channel, pattern)
    for path in plain:
        if not (is_file_or_absent(path) and is_image(path)):
            what = "is no NIfTI image" if path.exists() else "does not exist"
            raise ScanError(
                f"{path}, given for {channel}, {what}; expected a .nii.gz or .nii file, or a "
                f"pattern such as '*/{channel}.nii.gz': check the path."
            )
    return [*found, *_told_apart(plain)]


def _expand_pattern(channel: str, pattern: Path) -> list[_Found]:
    regex = _regex_of(str(pattern))
    paths = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207  Path's takes hidden ones
    images = [path for path in paths if is_image(Path(path))]
    if channel != MASK:
        images = [path for path in images if not is_mask(Path(path))]
    found = [_read(path, regex) for path in images]
    if not found:
        raise ScanError(
            f"{pattern}, given for {channel}, matches no NIfTI image; expected a .nii.gz or .nii "
            f"file for everybody: check the pattern, from the folder you are in."
        )
    return found


def _regex_of(pattern: str) -> re.Pattern[str]:
    """A regular expression with a group for each run of wild cards in a shell's pattern."""
    regex, end = "", 0
    for wild in _WILD.finditer(pattern):
        cards = _CARD.sub(_as_regex, wild[0])
        regex += f"{re.escape(pattern[end : wild.start()])}({cards})"
        end = wild.end()
    return re.compile(regex + re.escape(pattern[end:]))


def _as_regex(card: re.Match[str]) -> str:
    if card[0].startswith("["):
        return card[0].replace("[!", "[^", 1)
    return {"**/": "(?:[^/]+/)*", "?": "[^/]"}.get(card[0], "[^/]*")


def _read(path: str, regex: re.Pattern[str]) -> _Found:
    text = path[: len(path) - len(ending(Path(path)))]
    match = regex.fullmatch(path)
    if match is None:  # `**` alone, at the end
        return _Found(Path(path), _joined([text]), _joined([text]))
    spans = [match.span(group) for group in range(1, regex.groups + 1)]
    spans = [(start, min(end, len(text))) for start, end in spans if start < len(text)]
    words = [slice(*_to_ends(text, *span)) for span in spans]
    return _Found(
        Path(path),
        _joined(text[slice(*span)] for span in spans),
        _joined(text[word] for word in words),
    )


def _to_ends(text: str, start: int, end: int) -> tuple[int, int]:
    """Widen a part of a path to the ends of its words: `01` to `sub-01`."""
    before = max(text.rfind(sign, 0, start) for sign in "/_") + 1
    after = None if text[:end].endswith("/") else _WORDS.search(text, end)
    return before, end if after is None else after.start()


def _joined(parts: Iterable[str]) -> str:
    """Write parts of a path as one name, in which none stands twice in a row."""
    words = [word.strip("_-.") for part in parts for word in part.split("/")]
    words = [word for word in words if word]
    return "_".join(word for at, word in enumerate(words) if words[at - 1 : at] != [word])


def _told_apart(paths: Sequence[Path]) -> list[_Found]:
    """Tell paths that were written out apart by the words that they do not have in common."""
    words = [_WORDS.split(str(path.with_name(stem(path)))) for path in paths]
    apart = [
        _joined(word for word in own if not all(word in one for one in words)) for own in words
    ]
    return [_Found(path, told, told) for path, told in zip(paths, apart, strict=True)]


def require_channels(names: Sequence[str]) -> None:
    """Check that there is something to stack.

    Raises
    ------
    InputError
        There is one channel, or none.
    """
    if len(names) < 2:
        found = f"one channel ({names[0]})" if names else "none"
        raise InputError(
            f"A stack has two channels or more, and {found} was named; name the images of each, "
            f"as in 'DWI=*/dwi.nii.gz' 'ADC=*/adc.nii.gz'."
        )
