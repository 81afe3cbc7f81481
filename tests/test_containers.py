"""The recipes of containers: what they say, and that what they install runs.

No engine is asked for: their lines are read here and, where QSPACE_ND_INSTALL is set, those that
install are run in an empty virtual environment in place of the image.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qspace_nd._version import __version__

ROOT = Path(__file__).parents[1]
RECIPES = ["Dockerfile", "Apptainer.def"]
INSTALLED = {"dist/*.whl", "bin/constraints.txt", "bin/requirements.txt"}


def lines_of(name: str) -> list[str]:
    """A recipe's lines, those that go on joined, without comments."""
    text = (ROOT / "containers" / name).read_text(encoding="utf-8")
    text = re.sub(r"^\s*#.*\n", "", text, flags=re.M).replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def dockerfile() -> list[tuple[str, str]]:
    """Instructions and what they are given."""
    return [(word, rest) for word, rest in (line.split(" ", 1) for line in lines_of("Dockerfile"))]


def sections() -> dict[str, list[str]]:
    """The sections of the Apptainer recipe; the header is that without a name."""
    found: dict[str, list[str]] = {"": []}
    for line in lines_of("Apptainer.def"):
        if line.startswith("%"):
            found[line[1:].strip()] = lines = []
        else:
            (lines if len(found) > 1 else found[""]).append(line.strip())
    return found


def copied(name: str) -> set[str]:
    """What a recipe takes from the clone into /install/."""
    if name == "Dockerfile":
        (files,) = (rest.split() for word, rest in dockerfile() if word == "COPY")
        assert files.pop() == "/install/"
        return set(files)
    pairs = [line.split() for line in sections()["files"]]
    assert {to for _, to in pairs} == {"/install/"}
    return {source for source, _ in pairs}


def commands(name: str) -> list[str]:
    """What a recipe runs to install, as lines of a shell, its arguments filled in."""
    if name == "Dockerfile":
        given = {"RUN": "", "ARG": "export ", "ENV": "export "}
        return [given[word] + rest for word, rest in dockerfile() if word in given]
    arguments = dict(line.split("=", 1) for line in sections()["arguments"])
    return [
        re.sub(r"\{\{ *(\w+) *\}\}", lambda found: arguments[found[1]], line)
        for line in sections()["post"]
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_installs_the_wheel_in_the_versions_that_are_tested(name: str) -> None:
    assert copied(name) == INSTALLED
    install = [line for line in commands(name) if line.startswith("pip install")]
    assert "--require-hashes --requirement /install/requirements.txt" in install[0]
    assert "--constraint /install/constraints.txt /install/*.whl" in install[1]


@pytest.mark.parametrize("name", RECIPES)
def test_the_head_says_how_to_get_pytorchs_cpu_build(name: str) -> None:
    setting = "export PIP_EXTRA_INDEX_URL="
    (number,) = (n for n, line in enumerate(commands(name)) if line.startswith(setting))
    assert commands(name)[number] == setting
    assert commands(name)[number + 1].startswith("pip install")
    head = (ROOT / "containers" / name).read_text(encoding="utf-8").split("python:3")[0]
    argument = {"Dockerfile": "PIP_EXTRA_INDEX_URL=...", "Apptainer.def": "torch_index=..."}[name]
    assert f"--build-arg {argument}" in head
    assert {"Dockerfile": "--gpus all", "Apptainer.def": "--nv"}[name] in head


def test_both_start_from_one_python_and_run_the_command() -> None:
    (image,) = (rest for word, rest in dockerfile() if word == "FROM")
    assert re.fullmatch(r"python:3\.1\d-slim", image)
    assert sections()[""] == ["Bootstrap: docker", f"From: {image}"]
    (entry,) = (json.loads(rest) for word, rest in dockerfile() if word == "ENTRYPOINT")
    assert entry == ["qspace-nd"]
    assert sections()["runscript"] == ['exec qspace-nd "$@"']
    assert set(dict(dockerfile())) == {"FROM", "COPY", "RUN", "ARG", "ENV", "ENTRYPOINT"}
    assert set(sections()) == {"", "arguments", "files", "post", "runscript", "test", "help"}


def test_docker_is_sent_what_it_copies_and_no_more() -> None:
    text = (ROOT / "containers" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    first, *others = text.split()
    assert first == "*"
    assert set(others) == {f"!{path}" for path in INSTALLED}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.skipif(
    not os.environ.get("QSPACE_ND_INSTALL"),
    reason="downloads all that qspace-nd needs, and runs its demo; set QSPACE_ND_INSTALL=1 for it",
)
def test_what_a_recipe_installs_runs(name: str, tmp_path: Path) -> None:
    """In an empty environment; PyTorch comes from where pip is set to look, as CPU build or not."""
    build = [sys.executable, "-m", "build", "--no-isolation", "--wheel"]
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "*.egg-info", "build", "dist"))
    subprocess.run([*build, clone], check=True, capture_output=True)
    install = tmp_path / "install"
    install.mkdir()
    for pattern in copied(name):
        (found,) = clone.glob(pattern)
        shutil.copy(found, install)
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "empty"], check=True)
    lines = ["set -e", *commands(name)]
    script = "\n".join(lines).replace("/install", str(install))
    hidden = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    environment["PATH"] = f"{tmp_path / 'empty' / 'bin'}:{environment['PATH']}"
    script += "\nqspace-nd --version\nqspace-nd demo demo\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"qspace-nd {__version__}" in done.stdout
    assert (tmp_path / "demo" / "report" / "methods.md").is_file()
