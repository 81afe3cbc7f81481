"""b-tables, JSON and participants' tables that are not as they should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from mutations import EITHER, HARMLESS, REFUSE, SAME, SCANS, Change, Scene, rows


def numbers(ending: str, change: Callable[..., Any]) -> Change:
    """Change the numbers of the scan's `.bval` or `.bvec`."""

    def mutate(scene: Scene) -> None:
        path = scene.beside(ending)
        old = np.loadtxt(path, ndmin=2)
        np.savetxt(path, np.atleast_2d(change(old, scene.random)), fmt="%.9g")

    return mutate


def text(ending: str, change: Callable[[bytes], bytes]) -> Change:
    def mutate(scene: Scene) -> None:
        path = scene.beside(ending)
        path.write_bytes(change(path.read_bytes()))

    return mutate


def put_in(value: float, count: int = 1) -> Callable[..., Any]:
    """Give numbers of weighted volumes a value."""

    def change(old: Any, random: np.random.Generator) -> Any:
        weighted = np.delete(np.arange(18), [0, 9])
        old[0, random.permutation(weighted)[:count]] = value
        return old

    return change


def swap_tables(scene: Scene) -> None:
    one, other = scene.beside(".bval"), scene.beside(".bvec")
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


_SPREAD = np.linspace(300, 2900, 18).round()
_TEXTS = (
    (HARMLESS, "line ends of Windows", lambda old: old.replace(b"\n", b"\r\n")),
    (HARMLESS, "tabs", lambda old: old.replace(b" ", b"\t")),
    (HARMLESS, "commas", lambda old: old.replace(b" ", b", ")),
    (HARMLESS, "no line end", bytes.rstrip),
    (HARMLESS, "blank lines", lambda old: b"\n\n" + old + b"\n \n"),
    (SAME, "a mark of UTF-8", lambda old: b"\xef\xbb\xbf" + old),
    (SAME, "UTF-16", lambda old: old.decode().encode("utf-16")),
    (SAME, "quotes", lambda old: b'"' + old.strip() + b'"'),
    (SAME, "underscores", lambda old: old.replace(b"12", b"1_2")),
    (REFUSE, "empty", lambda _: b""),
    (REFUSE, "words", lambda _: b"not a table\n"),
    (REFUSE, "noise", lambda _: bytes(range(256))),
    (REFUSE, "one number more", lambda old: old.strip() + b" 1\n"),
    (REFUSE, "cut", lambda old: old[: len(old) // 2]),
    (REFUSE, "ten million numbers", lambda _: b"0 " * 10**7),
    (REFUSE, "1e400", lambda old: old.replace(b"1200", b"1e400").replace(b"0.9", b"1e400")),
)
rows(
    "b-table",
    SCANS,
    ((r, f"{n} ({e})", text(e, c)) for e in (".bval", ".bvec") for r, n, c in _TEXTS),
)
rows(
    "b-table",
    SCANS,
    [
        (HARMLESS, "5 for 0", numbers(".bval", lambda b, r: np.where(b == 0, 5, b))),
        (HARMLESS, "vectors in columns", numbers(".bvec", lambda g, r: g.T)),
        (HARMLESS, "opposite vectors", numbers(".bvec", lambda g, r: -g)),
        (
            HARMLESS,
            "NaN at b=0",
            numbers(".bvec", lambda g, r: np.where(abs(g).sum(0) > 0, g, np.nan)),
        ),
        (
            EITHER,
            "b a little off",
            numbers(".bval", lambda b, r: b * r.uniform(0.99, 1.01, b.shape)),
        ),
        (EITHER, "x flipped", numbers(".bvec", lambda g, r: g * [[-1], [1], [1]])),
        (EITHER, "axes permuted", numbers(".bvec", lambda g, r: g[[1, 2, 0]])),
        (
            EITHER,
            "volumes permuted",
            numbers(
                ".bvec",
                lambda g, r: np.insert(r.permutation(np.delete(g, [0, 9], 1).T).T, [0, 8], 0, 1),
            ),
        ),
        (REFUSE, "a huge number", text(".bval", lambda old: b"9" * 5000 + old[1:])),
        (SAME, "a huge number at b=0", text(".bvec", lambda old: b"9" * 5000 + old[8:])),
        (REFUSE, "negative", numbers(".bval", put_in(-1200))),
        (REFUSE, "NaN", numbers(".bval", put_in(np.nan))),
        (REFUSE, "infinity", numbers(".bvec", put_in(np.inf))),
        (REFUSE, "1e308", numbers(".bval", put_in(1e308, 16))),
        (REFUSE, "1e308 (.bvec)", numbers(".bvec", put_in(1e308))),
        (REFUSE, "a trace image", numbers(".bvec", lambda g, r: g * (np.arange(18) != 4))),
        (REFUSE, "b=60 for 0", numbers(".bval", lambda b, r: np.where(b == 0, 60, b))),
        (REFUSE, "b by a thousand", numbers(".bval", lambda b, r: b / 1000)),
        (REFUSE, "one volume late", numbers(".bval", lambda b, r: np.roll(b, 1))),
        (REFUSE, "b=0 said to be last", numbers(".bval", lambda b, r: np.sort(b))),
        (
            REFUSE,
            "one direction",
            numbers(".bvec", lambda g, r: np.where(abs(g).sum(0) > 0, [[1], [0], [0]], 0)),
        ),
        (REFUSE, "no b=0", numbers(".bval", lambda b, r: np.where(b == 0, 1200, b))),
        (REFUSE, "no weighting", numbers(".bval", lambda b, r: 0 * b)),
        (REFUSE, "twice as long", numbers(".bvec", lambda g, r: 2 * g)),
        (REFUSE, "changed about", swap_tables),
        (REFUSE, "b-values alone", lambda s: s.beside(".bvec").unlink()),
        (REFUSE, "vectors alone", lambda s: s.beside(".bval").unlink()),
        (
            REFUSE,
            "of another scan",
            lambda s: s.beside(".bvec").write_text((s.folder / "table.bval").read_text() * 3),
        ),
    ],
)

for _line in SCANS:  # of a scan by itself it may be so
    rows(
        "b-table",
        (_line,),
        [
            (
                EITHER if _line == "check" else REFUSE,
                "no shells",
                numbers(".bval", lambda b, r: np.where(b == 0, 0, _SPREAD)),
            ),
            (
                EITHER if _line == "check" else REFUSE,
                "half of the b",
                numbers(".bval", lambda b, r: b / 2),
            ),
        ],
    )


# --- JSON and tables


def nested(depth: int) -> Any:
    deep: Any = []
    for _ in range(depth):
        deep = [deep]
    return deep


WRONG = (None, True, 0, -1, 1.5, 1e308, 10**400, np.nan, np.inf, "", "a/../../x", "/", "x" * 10**5)
WRONG += ("\ud800", "é\0", [], {}, [[]], {"a": None}, [None] * 9, nested(200), "bids::../../x")
WHOLE = (b"", b"\xff\xfe\0", b"null", b"[]", b"7", b'"text"', b"NaN", b"{", b"{}", b'{"a": 1} x')
WHOLE += (b"[" * 10**5, b'{"a":' * 10**5, b"1" * 5000, b'{"a": ' + b"9" * 5000 + b"}", b" " * 10**7)


def somewhere(content: Any, random: np.random.Generator) -> Any:
    """Put something wrong at a place of what JSON held, or take it away."""
    if not isinstance(content, dict | list) or not content or random.random() < 0.15:
        return WRONG[random.integers(len(WRONG))]
    keys = list(content) if isinstance(content, dict) else range(len(content))
    key = keys[random.integers(len(keys))]
    if random.random() < 0.1:
        del content[key]
    else:
        content[key] = somewhere(content[key], random)
    return content


def wrong_value(pattern: str) -> Change:
    def mutate(scene: Scene) -> None:
        path = next(scene.folder.glob(pattern))
        content = somewhere(json.loads(path.read_text()), scene.random)
        path.write_text(json.dumps(content))

    return mutate


def wrong_whole(pattern: str) -> Change:
    def mutate(scene: Scene) -> None:
        path = next(scene.folder.glob(pattern))
        old = path.read_bytes()
        more = (
            old.decode().encode("utf-16"),
            b"\xef\xbb\xbf" + old,
            old[:-20],
            old.replace(b"a", b"\xe9"),
        )
        path.write_bytes(scene.one([*WHOLE, *more]))

    return mutate


_JSON = (
    ("novelty.json", ("eval", "eval within")),
    ("maps/sub-*/dwi/*_dwimap.json", ("bids eval", "bids resume")),
    ("maps/dataset_description.json", ("bids eval", "bids resume")),
    ("bids/dataset_description.json", ("bids map", "bids fit", "bids eval")),
    ("bids/derivatives/masks/dataset_description.json", ("bids map", "bids eval")),
    ("bids/participants.json", ("bids fit", "bids map")),
    ("bids/sub-control01/dwi/*_dwi.json", ("bids fit",)),
)
for _file, _lines in _JSON:
    for _ in range(3):
        rows("JSON", _lines, [(EITHER, f"{_file}, a value", wrong_value(_file))])
    rows("JSON", _lines, [(EITHER, f"{_file}, all", wrong_whole(_file))])


def table(change: Callable[[str], str | bytes]) -> Change:
    """Change `participants.tsv`."""

    def mutate(scene: Scene) -> None:
        path = scene.folder / "bids/participants.tsv"
        new = change(path.read_text())
        path.write_bytes(new if isinstance(new, bytes) else new.encode())

    return mutate


rows(
    "TSV",
    ("bids fit", "bids fit all", "bids map"),
    [
        (HARMLESS, "a mark of UTF-8", table(lambda old: "\ufeff" + old)),
        (HARMLESS, "line ends of Windows", table(lambda old: old.replace("\n", "\r\n"))),
        (HARMLESS, "blank lines", table(lambda old: old + "\n\n")),
        (HARMLESS, "ids without sub-", table(lambda old: old.replace("sub-", ""))),
        (HARMLESS, "one column more", table(lambda old: old.replace("\t", "\té\t"))),
        (EITHER, "latin-1", table(lambda old: old.replace("\t", "\té\t").encode("latin-1"))),
        (SAME, "UTF-16", table(lambda old: old.encode("utf-16"))),
        (EITHER, "short rows", table(lambda old: old.replace("\tpatient", ""))),
        (EITHER, "long rows", table(lambda old: old.replace("\tpatient", "\tpatient\t\t1"))),
        (EITHER, "a field of a megabyte", table(lambda old: old + "sub-x\t" + "x" * 10**6 + "\n")),
        (
            EITHER,
            "100,000 rows",
            table(lambda old: old + "".join(f"sub-{i}\tx\n" for i in range(10**5))),
        ),
        (EITHER, "a zero byte", table(lambda old: old.replace("control0", "control\0"))),
        (EITHER, "noise", table(lambda old: bytes(range(256)))),
        (REFUSE, "commas", table(lambda old: old.replace("\t", ","))),
        (HARMLESS, "column Group", table(lambda old: old.replace("\tgroup", "\tGroup"))),
        (
            REFUSE,
            "no column participant_id",
            table(lambda old: old.replace("participant_id", "id")),
        ),
        (REFUSE, "no header", table(lambda old: old.partition("\n")[2])),
        (REFUSE, "header alone", table(lambda old: old.partition("\n")[0])),
        (REFUSE, "empty", table(lambda _: "")),
        (REFUSE, "ids without zeros", table(lambda old: old.replace("l0", "l").replace("t0", "t"))),
        (
            REFUSE,
            "n/a for all",
            table(lambda old: old.replace("control\n", "n/a\n").replace("\tpatient", "\tn/a")),
        ),
        (
            REFUSE,
            "two rows for one",
            table(
                lambda old: old.replace(
                    "\nsub-control02", "\nsub-control01\tpatient\nsub-control02"
                )
            ),
        ),
        (
            REFUSE,
            "two columns group",
            table(
                lambda old: "\n".join(
                    f"{line}\t{word}"
                    for line, word in zip(
                        old.split("\n"),
                        ["group", "patient", "patient", "control", ""],
                        strict=False,
                    )
                )
            ),
        ),
    ],
)
rows(
    "TSV",
    ("bids fit all",),
    [
        (REFUSE, "n/a for one", table(lambda old: old.replace("\tpatient", "\tn/a"))),
        (REFUSE, "one without a row", table(lambda old: old.partition("sub-patient")[0])),
        (REFUSE, "other groups", table(lambda old: old.replace("\tgroup", "\tdiagnosis"))),
        (REFUSE, "none", lambda scene: (scene.folder / "bids/participants.tsv").unlink()),
    ],
)
