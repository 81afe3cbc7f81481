"""What a lab installs: the distributions with all that is in them, and the versions held."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import pytest
from packaging.metadata import Metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from qspace_nd._version import __version__

ROOT = Path(__file__).parents[1]
BESIDE = ("benchmarks", "bin", "containers", "data", "docs", "examples", "tests")
"""Folders that the source distribution holds beside the package, where the clone has them."""

LEFT = ("*_cache", "__pycache__", "*.egg-info")
"""Folders that tools leave in a clone."""


def setup() -> ConfigParser:
    read = ConfigParser()
    read.read(ROOT / "setup.cfg", encoding="utf-8")
    return read


def requirements(*extras: str) -> dict[str, Requirement]:
    """What the package and some of its extras require, by name."""
    told = setup()
    lines = [told["options"]["install_requires"]]
    lines += [told["options.extras_require"][extra] for extra in extras]
    listed = [line for line in "\n".join(lines).splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(one.name): one for one in map(Requirement, listed)}


def pins(name: str) -> dict[str, str]:
    """The versions in a file of `bin/`, by name."""
    text = (ROOT / "bin" / name).read_text(encoding="utf-8")
    found = re.findall(r"^([\w.-]+)==([\w.+!-]+)", text, re.M)
    return {canonicalize_name(one): version for one, version in found}


def files_of(folder: Path) -> set[str]:
    """All files below a folder, but what Python, Numba, pytest and their like leave there."""
    return {
        str(path.relative_to(ROOT))
        for path in folder.rglob("*")
        if path.is_file() and not any(fnmatch(part, left) for part in path.parts for left in LEFT)
    }


def call(words: Iterable[str | Path], folder: Path) -> str:
    """What a program prints that must succeed, and that does not see the clone."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*words], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The source distribution of a copy of the clone and, built from that, the wheel."""
    clone = tmp_path_factory.mktemp("clone")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, clone)
        elif path.name in (*BESIDE, "qspace_nd"):
            shutil.copytree(path, clone / path.name, ignore=shutil.ignore_patterns(*LEFT))
    call([sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."], clone)
    return {path.suffix: path for path in (clone / "dist").iterdir()}


def in_wheel(built: dict[str, Path]) -> set[str]:
    return {name for name in zipfile.ZipFile(built[".whl"]).namelist() if not name.endswith("/")}


def test_both_are_of_this_version(built: dict[str, Path]) -> None:
    assert {path.name for path in built.values()} == {
        f"qspace_nd-{__version__}.tar.gz",
        f"qspace_nd-{__version__}-py3-none-any.whl",
    }


def test_an_index_would_take_them(built: dict[str, Path]) -> None:
    folder = built[".whl"].parent
    told = call([sys.executable, "-m", "twine", "check", "--strict", *built.values()], folder)
    assert told.count("PASSED") == 2


def test_the_wheel_is_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    told = f"qspace_nd-{__version__}.dist-info/"
    package = {name for name in in_wheel(built) if not name.startswith(told)}
    assert package == files_of(ROOT / "qspace_nd")
    assert "qspace_nd/evaluation/report/references.bib" in package
    assert f"{told}licenses/LICENSE" in in_wheel(built)


def test_the_source_holds_what_its_tests_read(built: dict[str, Path]) -> None:
    with tarfile.open(built[".gz"]) as source:
        there = {one.name.split("/", 1)[1] for one in source.getmembers() if one.isfile()}
    wanted = {name for folder in BESIDE for name in files_of(ROOT / folder)}
    texts = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE"}
    assert wanted | texts | files_of(ROOT / "qspace_nd") <= there
    assert not [name for name in there if name.startswith((".venv", "dist/", "build/"))]


def test_what_an_index_shows(built: dict[str, Path]) -> None:
    with zipfile.ZipFile(built[".whl"]) as wheel:
        text = wheel.read(f"qspace_nd-{__version__}.dist-info/METADATA")
    told = Metadata.from_email(text)
    assert told.name == "qspace-nd"
    assert told.license_expression == "BSD-3-Clause"
    assert told.description_content_type == "text/markdown"
    assert told.description == (ROOT / "README.md").read_text(encoding="utf-8")
    assert str(told.requires_python) == ">=3.11"
    assert all(url.startswith("https://") for url in (told.project_urls or {}).values())
    assert {"Paper", "Preprint"} <= set(told.project_urls or {})
    assert {"fast", "benchmark", "test", "validator"} <= set(told.provides_extra or [])


def test_it_runs_where_nothing_but_its_requirements_is(
    built: dict[str, Path], tmp_path: Path
) -> None:
    """In an empty environment that borrows the requirements of this one, and no more."""
    call([sys.executable, "-m", "venv", "--without-pip", "empty"], tmp_path)
    python = tmp_path / "empty" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    call([*pip, "--no-deps", "--no-index", built[".whl"]], tmp_path)
    site = call([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], tmp_path)
    borrowed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    Path(site.strip(), "borrowed.pth").write_text("\n".join(borrowed))  # .pth there is not read
    where = call([python, "-c", "import qspace_nd; print(qspace_nd.__file__)"], tmp_path)
    assert Path(where.strip()).is_relative_to(tmp_path)
    program = python.with_name("qspace-nd")
    assert "demo" in call([program, "--help"], tmp_path)
    assert __version__ in call([program, "--version"], tmp_path)
    call([program, "simulate", "cohort", "--layout", "flat", "--voxel-size", "6"], tmp_path)
    assert (tmp_path / "cohort" / "patient.nii.gz").is_file()
    page = "from qspace_nd.evaluation.page import index_of; print(index_of([], None))"
    assert "<html" in call([python, "-c", page], tmp_path)


def test_the_oldest_versions_are_the_least_that_are_required() -> None:
    oldest = pins("oldest.txt")
    required = requirements("fast", "test")
    for tool in ("mypy", "ruff"):  # they read the code and are no part of what runs
        del required[tool]
    assert set(oldest) == set(required)
    for name, one in required.items():
        (least,) = (bound.version for bound in one.specifier if bound.operator == ">=")
        assert Version(oldest[name]) == Version(least), name


def test_hashed_versions_are_those_that_are_tested() -> None:
    hashed, tested = pins("requirements.txt"), pins("constraints.txt")
    assert {name: tested.get(name, version) for name, version in hashed.items()} == hashed
    assert set(requirements("fast")) - {"torch"} <= set(hashed)
    assert "torch" not in hashed


def test_every_hashed_file_is_named_by_a_hash() -> None:
    text = (ROOT / "bin" / "requirements.txt").read_text(encoding="utf-8")
    for entry in re.split(r"\n(?=\w)", re.sub(r"^#.*\n", "", text, flags=re.M)):
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry


@pytest.mark.parametrize("extra", ["fast", "test", "validator"])
def test_a_version_of_each_requirement_is_held_and_is_not_too_old(extra: str) -> None:
    tested = pins("constraints.txt")
    for name, one in requirements(extra).items():
        assert tested[name] in one.specifier, name
