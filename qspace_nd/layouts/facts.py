"""JSON files of other programs and people: read without trust in what they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def read_facts(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    ValueError
        The file cannot be read, or holds something else; the message is a short reason.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(facts, dict):
        kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
        raise ValueError(f"it holds {kinds.get(type(facts), 'a number')}, not an object")
    return facts


def is_name(value: object) -> bool:
    """Whether a value can serve as the name of a file, or a part of it: text without a path."""
    return (
        isinstance(value, str)
        and value.isprintable()
        and 0 < len(value.encode("utf-8", "replace")) <= 200
        and not set(value) & {"/", "\\"}
        and value not in (".", "..")
    )
