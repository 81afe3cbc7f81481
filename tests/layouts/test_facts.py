from __future__ import annotations

from pathlib import Path

import pytest

from qspace_nd.layouts.facts import is_name, read_facts


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[1]", "it holds a list, not an object"),
        (b"null", "it holds null, not an object"),
        (b"7", "it holds a number, not an object"),
        (b"{", "Expecting"),
        (b'{"a": "\xff"}', "utf-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "digits"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_no_object_is_refused_with_a_reason(
    content: bytes, says: str, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(ValueError, match=says):
        read_facts(tmp_path / "x.json")


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to("x.json")
    with pytest.raises(ValueError, match="links"):
        read_facts(tmp_path / "x.json")


@pytest.mark.parametrize("name", ["a", "Müller 1", "a..b", "latent-distance"])
def test_names_are_names(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/../../x", "/x", "a\\b", "a\nb", "a\0b", "\x1b[2J", "x" * 300, 3, ["a"]],
)
def test_paths_and_other_things_are_no_names(name: object) -> None:
    assert not is_name(name)
