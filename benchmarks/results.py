"""What every benchmark writes into RESULTS.md: a section between markers, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from qspace_nd.system.writing import replacing


def write_section(path: Path, name: str, text: str) -> None:
    """Put `text` between the markers of a section of a Markdown file, or at its end."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    old = path.read_text() if path.exists() else "# Results\n"
    before, found, rest = old.partition(begin)
    after = rest.partition(end)[2] if found else ""
    if not found:
        before = before.rstrip("\n") + "\n\n"
    with replacing(path) as temporary:
        temporary.write_text(f"{before}{begin}\n{text.rstrip()}\n{end}{after or chr(10)}")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay texts out as a Markdown table, figures on the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
