"""The house: which room may import which, how long a body may be, how many rooms there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "qspace_nd"
MODULES = sorted(PACKAGE.rglob("*.py"))

OPEN = [PACKAGE / "__init__.py", PACKAGE / "__main__.py", PACKAGE / "plotting.py"]
"""What may import from every room: public names, when they are asked for, and the command line."""

GROUND = "ground"
ORDER = [
    {GROUND},
    {"system"},
    {"searching", "network", "diffusion", "layouts"},
    {"imaging"},
    {"scores"},
    {"registration", "calibration", "evaluation"},
    {"model"},
    {"simulation"},
    {"workflows"},
    {"cli"},
]
"""From low to high: a room imports what lies below it, and itself."""


def room_of(name: str) -> str:
    """The room of a dotted name within the package; single files lie on the ground."""
    first = name.split(".")[1] if "." in name else ""
    return first if (PACKAGE / first).is_dir() and first else GROUND


def level_of(room: str) -> int:
    return next(level for level, rooms in enumerate(ORDER) if room in rooms)


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a module imports of the package, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{name.name}") for name in node.names)


def body_of(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body, its docstring left out."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downwards(path: Path) -> None:
    if path in OPEN:
        return
    own = room_of(".".join(("qspace_nd", *path.relative_to(PACKAGE).parts)))
    for line, name in imports_of(path):
        other = room_of(name)
        if name.split(".")[0] != "qspace_nd" or own in (other, "cli"):
            continue
        assert level_of(other) < level_of(own), f"{path}:{line} imports {name} from {own}"


def test_scores_never_import_imaging() -> None:
    for path in (PACKAGE / "scores").glob("*.py"):
        assert not [name for _, name in imports_of(path) if room_of(name) == "imaging"], path


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_bodies_are_short(path: Path) -> None:
    most = 60 if path.parent.name == "searching" else 40
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert body_of(node) <= most, f"{path}: {node.name} has {body_of(node)} lines"


def test_every_room_says_in_a_line_what_is_in_it() -> None:
    for folder in {path.parent for path in MODULES} - {PACKAGE, PACKAGE / "cli"}:
        (line,) = (folder / "__init__.py").read_text(encoding="utf-8").splitlines()
        assert line.startswith('"""') and line.endswith('."""'), folder


def test_the_house_has_at_most_22_rooms() -> None:
    assert len([*PACKAGE.glob("*.py"), *{path.parent for path in MODULES} - {PACKAGE}]) <= 22
