"""Reports of novelty maps, from files to pages."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from qspace_nd.evaluation.methods import methods_of, passage_of, references_of, together_cited
from qspace_nd.evaluation.page import index_of, page_of
from qspace_nd.layouts.maps import MapRecord, name_maps, patient_of
from qspace_nd.layouts.names import stem
from qspace_nd.layouts.pairing import find_maps, group_by_patient, pair
from qspace_nd.layouts.scans import find_scans
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.progress import Progress, watcher
from qspace_nd.scores.catalogue import CATALOGUE
from qspace_nd.scores.names import DEFAULT_SCORE
from qspace_nd.system.locking import alone, lock_of
from qspace_nd.system.writing import remove_leftovers, require_writable, together, write_text
from qspace_nd.workflows.jobs import ModelFacts
from qspace_nd.workflows.report_index import INDEX, everybody_in, require_addable
from qspace_nd.workflows.report_one import Studied

BESIDE = ("methods.md", "references.bib")
"""What lies beside it: the methods of all people, for a paper, and the works that are cited."""

_log = logging.getLogger(__name__)


def report_maps(
    maps: Sequence[str | Path],
    model: str | Path,
    folder: str | Path,
    *,
    labels: Sequence[str | Path] = (),
    force: bool = False,
    progress: Progress | bool = False,
) -> list[Path]:
    """Write a page for each person whose maps are given, and one of all, to `folder`.

    Beside them lie the methods, for a paper (`methods.md`), and what they cite (`references.bib`).
    Where there is a report of the same model already, people are added to it; several processes may
    do so side by side.

    Of several maps of a scan the page shows one that can be compared with healthy people's, of the
    default score where there is one.

    Parameters
    ----------
    maps : sequence of str or Path
        Files or folders, of maps by one model.
    model, folder : str or Path
        The folder of the model; and where to write to.
    labels : sequence of str or Path
        Lesions to outline; see `qspace_nd.layouts.pairing.pair`.
    force : bool
        Replace files that exist.
    progress : Progress or bool
        True to show bars.

    Returns
    -------
    list of Path
        The page of all, and those of the people.

    Raises
    ------
    InputError
        A map was made by another model, something does not fit together, or an output exists;
        nothing was written.
    """
    folder, facts = Path(folder), ModelFacts.read(Path(model))
    groups = group_by_patient(find_maps(map(Path, maps)), CATALOGUE)
    drawn = pair(groups, [*map(Path, labels)], "--labels") if labels else [None] * len(groups)
    names = _names(groups)
    files = _files(folder, names)
    beside = [folder / name for name in BESIDE]
    _require_place(folder, facts.digest, force=force)
    require_writable(files[1:], force=force)
    studied = Studied(NoveltyModel.load(facts.folder), facts)
    chosen = [studied.choose(group) for group in groups]
    pages, rows = [], []
    watching = watcher(progress)
    with watching.task("Reporting maps", len(groups)) as task:
        for name, record, outlined, path in zip(names, chosen, drawn, files[1:], strict=True):
            person = studied.person(name, record, outlined)
            pages.append(page_of(person))
            row = {"methods": passage_of(person), "references": references_of(person)}
            row |= {"name": name, "group": "mapped", "page": path.name, **studied.row(person)}
            rows.append(row)
            task.advance(note=name)
    healthy = studied.healthy()
    rows += [] if healthy is None else healthy.rows()
    with alone(lock_of(files[0]), folder):
        require_writable(files[1:], force=force)
        everybody = everybody_in(rows, folder, facts.digest, force=force)
        mapped = [row for row in everybody if row["page"]]
        texts = [
            index_of(everybody, facts.digest),
            *pages,
            methods_of({row["name"]: row["methods"] for row in mapped}),
            together_cited(row["references"] for row in mapped),
        ]
        remove_leftovers([*files, *beside])
        with together():
            for path, text in zip([*files, *beside], texts, strict=True):
                write_text(path, text)
    _log.info(f"Wrote {files[0]}: open it in a browser")
    return files


def require_new(
    folder: Path, model: Path, scans: Sequence[Path], output: Path, *, force: bool
) -> None:
    """Check, before any work, that the maps of scans can be told of in a folder.

    Parameters
    ----------
    folder, model : Path
        Where the report is to go; and the folder of the model.
    scans : sequence of Path
    output : Path
        Where their maps will lie, as `layouts.maps.name_maps` takes it.
    force : bool
        Pages may be replaced.

    Raises
    ------
    OutputError
        A person has a page there already, or people cannot be added to what is there.
    """
    _require_place(folder, ModelFacts.read(model).digest, force=force)
    found = find_scans(scans)
    maps = [one.mask for one in name_maps(found, output, [DEFAULT_SCORE])]
    names = [
        patient_of(path, {"Patient": scan.name}) for path, scan in zip(maps, found, strict=True)
    ]
    once = [name for name in names if names.count(name) == 1]
    require_writable(_files(folder, once)[1:], force=force)


def _require_place(folder: Path, model: str, *, force: bool) -> None:
    """Check that a report is in a folder that people can be added to, or can be begun there."""
    require_addable(folder, model, force=force)
    if not (folder / INDEX).exists():
        require_writable([folder / name for name in BESIDE], force=force)


def _names(groups: Sequence[Sequence[MapRecord]]) -> list[str]:
    """What each person is called, by the map's file where two would be called the same."""
    names = [records[0].patient for records in groups]
    return [
        name if names.count(name) == 1 else stem(records[0].path)
        for name, records in zip(names, groups, strict=True)
    ]


def _files(folder: Path, names: Sequence[str]) -> list[Path]:
    """The page of all and those of the people, whose names may hold anything."""
    files = [folder / INDEX]
    for name in names:
        plain = re.sub(r"[^\w.+-]+", "_", name).strip("._") or "person"
        path, number = folder / f"{plain}.html", 2
        while path in files:
            path, number = folder / f"{plain}_{number}.html", number + 1
        files.append(path)
    return files
