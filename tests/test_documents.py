"""The documents: the site is built from them, and what they tell to type is typed.

Every fenced block of `README.md` and of the pages in `docs/` is one of these:

- `console`: each line that begins with `$ ` is run, in order, in what `page_folder` makes;
- `python`: run in that folder;
- `text`: what a command prints;
- `{name}`: a directive of the site;
- any other, or one of these with the comment `<!-- not run: REASON -->` on the line before it: not
  run, for a reason that is listed in `NOT_RUN`.

Before a block may stand `<!-- first: LINE -->`, a line to be run that readers are not shown, and
`<!-- afresh -->`, which takes away what the blocks above have written.
"""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from qspace_nd.network.recipes import IMAGE_PRESETS, PRESETS
from qspace_nd.scores import catalogue
from tests.conftest import CONTROLS, PATIENT, PROGRAM, Run, as_stack, of_extra, register_quickly

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
LONGEST_README = 95

NOT_RUN = {
    "installs the package": "an empty environment takes minutes; packaging is tested by itself",
    "is these tests": "they are running",
    "takes three minutes": "tests/workflows/test_demo.py runs the demo",
    "needs Slurm": "there is none here; examples/map.sbatch has a test with a stand-in",
    "needs a scheduler": "tests/workflows/test_dask_runner.py starts some",
    "waits for a model": "tests/cli/test_bids.py runs participants side by side into one report",
    "is an entry of the catalogue": "test_entries_of_the_catalogue_are_shown_as_they_are checks it",
    "is for BibTeX": "nothing to run",
    "is built by a test": "test_the_site_is_built_without_a_warning builds it",
}
"""Why a block is not run, as pages say it: why that does no harm."""

SHORTER = {
    "fit": " --epochs 1",
    "group": " --epochs 1",
    "simulate": " --controls 1 --voxel-size 8 --force",
}
"""What is added to a line with a word to make it quick."""


# --- The site


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "docs", tmp_path / "site"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stderr
    for page in PAGES[1:]:
        assert (tmp_path / f"site/{page.stem}.html").is_file(), page
    interface = (tmp_path / "site/python.html").read_text(encoding="utf-8")
    import qspace_nd

    for name in set(qspace_nd.__all__) - {"__version__"}:
        assert f'id="qspace_nd.{name}"' in interface, f"docs/python.md lacks {name}"


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "data/README.md"], ids=lambda page: page.name
)
def test_links_within_the_repository_lead_somewhere(page: Path) -> None:
    for target, _, anchor in re.findall(
        r"\]\((?![a-z]+:)([^)#\s]*)(#([^)\s]+))?\)", page.read_text(encoding="utf-8")
    ):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors_of(path), f"{page.name} links to {target}#{anchor}"


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made of their words."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


# --- What is told to type


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the comments before it."""

    language: str
    text: str
    first: tuple[str, ...] = ()
    afresh: bool = False
    not_run: str | None = None

    def lines(self) -> list[str]:
        """The lines of a console block that are typed."""
        return [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]


_BLOCK = re.compile(
    r"(?P<comments>(?:^<!-- .* -->\n+)*)^(?P<fence>```+)(?P<language>\S*).*\n"
    r"(?P<text>(?:.*\n)*?)^(?P=fence)$",
    re.M,
)


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found = []
    for match in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        comments = re.findall(r"^<!-- (\w[\w ]*?)(?:: (.*))? -->$", match["comments"], re.M)
        (reason,) = [text for name, text in comments if name == "not run"] or [None]
        first = tuple(text for name, text in comments if name == "first")
        afresh = ("afresh", "") in comments
        found.append(Block(match["language"], match["text"], first, afresh, reason))
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"^ *```", text, re.M)) == 2 * len(blocks_of(page)), "a fence is indented"
    assert not re.search(r"\n\n    \S", _BLOCK.sub("", text).replace("\n    - ", "\n    ")), (
        "an indented block would not be run"
    )
    for block in blocks_of(page):
        if block.not_run is not None:
            assert block.not_run in NOT_RUN, f"{page.name}: {block.not_run} is not listed"
        elif block.language == "console":
            assert block.lines(), f"{page.name}: nothing to type in {block.text}"
        else:
            known = block.language in ("python", "text") or block.language.startswith("{")
            assert known, f"{page.name}: a block of {block.language!r} is not run"


def test_every_reason_not_to_run_a_block_is_used() -> None:
    pages = [*PAGES, ROOT / "CITATION.md"]
    assert {block.not_run for page in pages for block in blocks_of(page)} - {None} == {*NOT_RUN}


@pytest.fixture
def page_folder(
    folder: Path, bids_cohort: Path, short: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with all that pages read: scans, BIDS datasets, contrasts, arrays; nothing made."""
    register_quickly(monkeypatch)
    remove_results(folder)
    for scan, who in zip(CONTROLS[:2], ("sub-c1", "sub-c2"), strict=True):
        as_contrasts(folder / scan, folder / "controls" / who, folder / "contrasts" / who)
    as_contrasts(folder / PATIENT, folder / "patients/sub-p1", folder / "contrasts/sub-p1")
    (folder / "contrasts/dataset_description.json").write_text(
        '{"Name": "contrasts", "BIDSVersion": "1.10.0"}'
    )
    (folder / "contrasts/participants.tsv").write_text(
        "participant_id\tgroup\nsub-c1\tcontrol\nsub-c2\tcontrol\nsub-p1\tpatient\n"
    )
    (folder / "cohort").symlink_to(bids_cohort)
    random = np.random.default_rng(0)
    np.save(folder / "normal.npy", random.random((60, 6)))
    np.save(folder / "test.npy", random.random((20, 6)))
    np.save(folder / "subjects.npy", np.repeat([0, 1, 2, 3], 15))
    return folder


def as_contrasts(scan: Path, plain: Path, bids: Path) -> None:
    """Write a scan as separate contrasts with a mask, with plain names and with those of BIDS."""
    as_stack(scan, plain / "all.nii.gz")
    image = nib.load(plain / "all.nii.gz")
    mask = plain / "all_mask.nii.gz"
    (bids / "anat").mkdir(parents=True)
    for at, name in enumerate(("FLAIR", "T1w", "T2w")):
        contrast = nib.Nifti1Image(image.get_fdata(dtype=np.float32)[..., at], image.affine)
        nib.save(contrast, plain / f"{name.lower()}.nii.gz")
        nib.save(contrast, bids / f"anat/{bids.name}_{name}.nii.gz")
    shutil.copy(mask, bids / f"anat/{bids.name}_desc-brain_mask.nii.gz")
    mask.rename(plain / "brain_mask.nii.gz")
    (plain / "all.nii.gz").unlink()


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let training be over in a moment."""
    for presets in (PRESETS, IMAGE_PRESETS):
        monkeypatch.setitem(presets, "default", replace(presets["default"], steps=10))


def remove_results(folder: Path) -> None:
    """Leave the inputs alone in the folder."""
    kept = {"healthy", "controls", "patients", "contrasts"}
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name not in kept:
            shutil.rmtree(path)
    for path in folder.glob("novelty*"):
        path.unlink()


def type_line(line: str, folder: Path, call: Run) -> Path:
    """Type a line, and give the folder that one is in afterwards."""
    words = line.split()
    if words[0] == "cd":
        return folder / words[1]
    if "--cluster" in words:
        of_extra("distributed")
    if words[0] == "qspace-nd":  # --add takes no settings
        found = (more for word, more in SHORTER.items() if word in words and "--add" not in words)
        outcome = call(line.removeprefix("qspace-nd ") + next(found, ""), folder)
        assert outcome.status == 0, f"{line}\n{outcome.stderr}"
        return folder
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return folder


@pytest.mark.parametrize(
    "page",
    [
        page
        for page in PAGES
        if any(block.language in ("console", "python") for block in blocks_of(page))
    ],
    ids=lambda page: page.stem,
)
def test_what_a_page_tells_to_type_works(page: Path, page_folder: Path, call: Run) -> None:
    here = page_folder
    names: dict[str, Any] = {}
    for block in blocks_of(page):
        if block.afresh:
            here = page_folder
            remove_results(here)
        for line in block.first:
            here = type_line(line, here, call)
        if block.not_run is not None:
            continue
        if block.language == "console":
            for line in block.lines():
                here = type_line(line, here, call)
        elif block.language == "python":
            with chdir(here):
                exec(block.text, names)


def test_entries_of_the_catalogue_are_shown_as_they_are() -> None:
    for block in blocks_of(ROOT / "docs/scores.md"):
        if block.not_run == "is an entry of the catalogue":
            shown = eval(f"{{{block.text}}}", vars(catalogue))
            assert shown == {name: catalogue.CATALOGUE[name] for name in shown}
            return
    pytest.fail("docs/scores.md shows no entry")


def test_the_page_of_scans_shows_what_check_prints(prepared: Path, call: Run) -> None:
    """Its last scan, the head of its table and its count; other scans have other numbers."""

    def lines(text: str) -> list[str]:
        return [" ".join(re.sub(r"-?\d[\d.,]*", "0", line).split()) for line in text.splitlines()]

    (shown,) = [b.text for b in blocks_of(ROOT / "docs/scans.md") if b.language == "text"]
    told = lines(call("check healthy/*.nii.gz patient.nii.gz", prepared).stdout)
    wanted, at = lines(shown), told.index("Quality")
    scan, table = wanted[: wanted.index("Quality")], wanted[wanted.index("Quality") :]
    assert told[at - len(scan) : at] == scan
    assert told[at:][:3] == table[:3]
    assert told[-1] == wanted[-1]


def test_the_readme_is_a_screen_that_begins_with_a_small_picture() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_README
    (path,) = re.findall(r"^!\[[^]]+\]\((\S+)\)", text[:400], re.M)
    assert (ROOT / path).stat().st_size < 300_000


@pytest.mark.parametrize("page", [README, ROOT / "docs/index.md"], ids=lambda page: page.stem)
def test_the_front_pages_show_the_three_lines(page: Path) -> None:
    lines = [line for block in blocks_of(page) for line in block.lines()]
    for line in (
        "qspace-nd fit healthy/*.nii.gz",
        "qspace-nd map patient.nii.gz -o novelty.nii.gz",
        "qspace-nd eval --labels lesions.nii.gz",
    ):
        assert line in lines


# --- Examples and pictures


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda e: e.stem)
def test_an_example_runs_and_draws_its_picture(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little training; the picture that is shown is of all of it."""
    monkeypatch.setattr(catalogue, "CATALOGUE", dict(catalogue.CATALOGUE))
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")
    assert (tmp_path / f"{example.stem}.png").read_bytes().startswith(b"\x89PNG")
    page = (ROOT / "docs/examples.md").read_text(encoding="utf-8")
    assert f"../examples/{example.name}" in page and f"../examples/{example.stem}.png" in page


def test_pictures_of_pages_are_small() -> None:
    for picture in [*(ROOT / "docs").glob("*.png"), *(ROOT / "examples").glob("*.png")]:
        assert picture.stat().st_size < 200_000, picture
