"""Spoil good inputs in every way, and look for crashes, hangs, leaks and silent acceptance.

    python benchmarks/fuzz.py --cases 10000             all kinds, into RESULTS.md
    python benchmarks/fuzz.py --cases 500 --kinds JSON arrays
    python benchmarks/fuzz.py --replay 1234             one case again, kept to be looked at

Every case is a tiny study with one thing spoiled, and one line that meets it, in a process of its
own. What is wrong: a traceback, or words of Python's; a hang; too much memory; outputs that cannot
be read, or are missing, or lie elsewhere, or are there though the line was refused; what means
something else and is taken without a warning; and what is well and is refused or warned of.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import spoiled_images  # noqa: F401  each fills the table
import spoiled_lines  # noqa: F401
import spoiled_models  # noqa: F401
import spoiled_texts  # noqa: F401
import trials
from mutations import EITHER, HARMLESS, LINES, MUTATIONS, REFUSE, SAME, Mutation, Scene
from results import table, write_section
from safetensors.numpy import load_file
from trials import Outcome

HERE = Path(__file__).parent
KINDS = list(dict.fromkeys(mutation.kind for mutation in MUTATIONS))
WRONG = ("traceback", "hang", "memory", "outputs", "silent", "false alarm")
SMALL = 1 << 20  # bytes of a spoiled file that is kept


@dataclass(frozen=True)
class Case:
    """A number, and what follows from it and the seed."""

    number: int
    seed: int
    mutation: Mutation
    line: str

    @classmethod
    def of(cls, number: int, seed: int) -> Case:
        kind = KINDS[number % len(KINDS)]
        among = [mutation for mutation in MUTATIONS if mutation.kind == kind]
        order = np.random.default_rng(0).permutation(len(among))
        mutation = among[order[number // len(KINDS) % len(among)]]
        lines = mutation.lines
        return cls(
            number, seed, mutation, lines[np.random.default_rng(number).integers(len(lines))]
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Case.of, (self.number, self.seed)

    def __str__(self) -> str:
        return f"{self.mutation.kind}, {self.mutation.name} ({self.mutation.right}); {self.line}"


@dataclass
class Judged:
    """What became of a case: `taken` in words, and what is wrong with it by `WRONG`."""

    case: Case
    taken: str
    outcome: Outcome
    wrong: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Right:
    """What a line does with a study in which nothing is spoiled."""

    outcome: Outcome
    names: set[str]
    folder: Path


class Fuzzer:
    """Runs cases on copies of a study."""

    def __init__(self, study: Path, work: Path, *, memory: float = 0.5, seconds: int = 10) -> None:
        self._study, self._work = study, work
        self._memory, self._seconds = memory * 1e9, seconds
        self._rights: dict[str, Right] = {}

    def right(self, line: str) -> Right:
        if line not in self._rights:
            folder = self._work / f"right {line} {os.getpid()}" / "study"
            shutil.copytree(self._study, folder)
            before = trials.tree(folder)
            log = folder.with_name("log")
            words = shlex.split(LINES[line][0])
            outcome = trials.wait_for(trials.start(words, folder, log), log)
            names = set(map(trials.plain, _changed(before, trials.tree(folder))))
            self._rights[line] = Right(outcome, names, folder)
        return self._rights[line]

    def run(self, case: Case, failures: Path) -> Judged:
        """Spoil a copy of the study, run the line on it, judge; keep what is wrong."""
        folder = self.place(case)
        shutil.copytree(self._study, folder, symlinks=True)
        words = shlex.split(LINES[case.line][0])
        random = np.random.default_rng([case.seed, case.number])
        scene = Scene(folder, words, folder / _scan_of(words), random)
        try:
            case.mutation.change(scene)
        except Exception as error:
            raise RuntimeError(f"case {case.number}, {case}, cannot be made") from error
        before = trials.tree(folder.parent)
        log = self._work / f"{case.number}.log"
        child = trials.start(scene.words, folder, log, before=scene.before, seconds=self._seconds)
        judged = self.judge(case, trials.wait_for(child, log), before, scene.words)
        if judged.wrong:
            keep(judged, folder, self._study, failures)
        return judged

    def clean(self, case: Case) -> None:
        shutil.rmtree(self.place(case).parent, ignore_errors=True)
        (self._work / f"{case.number}.log").unlink(missing_ok=True)

    def place(self, case: Case) -> Path:
        return self._work / str(case.number) / "study"

    def judge(self, case: Case, outcome: Outcome, before: dict, words: Sequence[str]) -> Judged:
        right, around = self.right(case.line), self.place(case).parent
        new = _changed(before, trials.tree(around))
        warned = bool(outcome.warnings - right.outcome.warnings)
        taken = "refused" if outcome.status else "warned" if warned else "accepted"
        judged = Judged(case, taken, outcome)
        judged.wrong += self._conduct(case, outcome, right.outcome)
        same_line = list(words) == shlex.split(LINES[case.line][0])
        judged.wrong += (
            ("outputs", fault) for fault in _outputs(around, new, case, outcome, right, same_line)
        )
        if judged.wrong:
            return judged
        expected, ended = case.mutation.right, right.outcome.status
        if expected == REFUSE and taken == "accepted":
            judged.wrong.append(("silent", "accepted without a word"))
        elif expected == HARMLESS and (outcome.status != ended or taken == "warned"):
            judged.wrong.append(("false alarm", f"{taken} (exit {outcome.status})"))
        elif expected in (HARMLESS, SAME) and taken == "accepted" and not ended:
            unlike = _unlike(around / "study", right.folder, case.line)
            judged.wrong += [("silent", unlike)] if unlike else []
        return judged

    def _conduct(self, case: Case, outcome: Outcome, right: Outcome) -> Iterator[tuple[str, str]]:
        status, text = outcome.status, outcome.text
        python = trials.PYTHON.search(text)
        if status in trials.TOO_LONG:
            yield "hang", f"not done after {self._seconds} s"
        elif "Out of memory" in text or outcome.peak - right.peak > self._memory:
            more = (outcome.peak - right.peak) / 1e9
            yield "memory", f"{more:.1f} GB more than without"
        elif status not in (0, 1, 2):
            last = text.strip().splitlines()[-1:] or [""]
            yield "traceback", f"exit {status}: {last[0][:200]}"
        elif python:
            at = text.rfind("\n", 0, python.start()) + 1
            yield "traceback", f"says: {text[at : at + 200].splitlines()[0]}"
        elif "The system refused" in text and case.mutation.right != EITHER:
            yield "traceback", f"caught by the last net: {text.strip().splitlines()[-1][:200]}"
        elif status and not text.strip() and case.mutation.kind != "surroundings":
            yield "traceback", f"exit {status} without a word"


def _scan_of(words: Sequence[str]) -> str:
    named = "healthy/control-02.nii.gz"
    return named if named in words else "patient.nii.gz"


def _changed(before: dict, after: dict) -> list[str]:
    return sorted(name for name, state in after.items() if before.get(name) != state)


def _outputs(
    around: Path, new: Sequence[str], case: Case, outcome: Outcome, right: Right, same_line: bool
) -> Iterator[str]:
    yield from trials.faults(around, new)
    starts = LINES[case.line][1]
    if outcome.status == 2 and new:
        yield f"exit 2, but wrote {trials.plain(new[0])}"
    for name in new:
        if "~" in Path(name).parts:
            yield "a folder ~ was made"
        elif same_line and not name.startswith(f"study/{starts}"):
            yield f"wrote {trials.plain(name)}"
    gone = right.names - {trials.plain(name.removeprefix("study/")) for name in new}
    gone = {name for name in gone if "residual" not in name}
    if outcome.status == 0 and same_line and case.mutation.right in (HARMLESS, SAME) and gone:
        yield f"exit 0 without {min(gone)}"


def _unlike(folder: Path, right: Path, line: str) -> str:
    """How the outputs differ from those without the mutation; empty where they do not."""
    if line.endswith("fit") or line == "fit":
        ours, theirs = (_reference(place / "new") for place in (folder, right))
    elif line == "add":
        ours, theirs = (_reference(place / "qspace-nd-model") for place in (folder, right))
    elif "eval" in line:
        ours, theirs = ([np.array(_numbers(place))] for place in (folder, right))
    else:
        names = sorted(right.glob("map*.nii.gz")) + sorted(right.glob("new/**/*.nii.gz"))
        names = [path.relative_to(right) for path in names]
        ours, theirs = (
            [
                np.asarray(nib.load(place / name).dataobj)
                for name in names
                if (place / name).exists()
            ]
            for place in (folder, right)
        )
    for one, other in zip(ours, theirs, strict=False):
        if one.shape != other.shape:
            return f"another shape: {one.shape} for {other.shape}"
        if not np.allclose(one, other, rtol=1e-3, atol=1e-3 * np.abs(other).max()):
            return f"another result, by up to {np.abs(one - other).max() / np.abs(other).max():.2g}"
    return ""


def _reference(model: Path) -> list[np.ndarray]:
    names = [
        name for name in json.loads((model / "model.json").read_text())["files"] if "/" in name
    ]
    return [array for name in names for _, array in sorted(load_file(model / name).items())]


def _numbers(folder: Path) -> list[float]:
    rows = (folder / "figures/eval.tsv").read_text().splitlines()[1:]
    return [float(word) for row in rows for word in row.split("\t") if word[:1].isdigit()]


def run(fuzzer: Fuzzer, cases: Iterable[Case], jobs: int, failures: Path) -> Iterator[Judged]:
    """Run cases, some at a time: each worker makes, runs and judges its own.

    Workers are forked from this process, as all is loaded in it; so are the children of each.
    """
    forking = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, forking, _workers.append, (fuzzer,)) as pool:
        yield from pool.map(partial(_work, failures), cases)


_workers: list[Fuzzer] = []  # that of a worker's own process


def _work(failures: Path, case: Case) -> Judged:
    judged = _workers[0].run(case, failures)
    _workers[0].clean(case)
    return judged


def keep(judged: Judged, there: Path, study: Path, failures: Path) -> None:
    """Keep what was spoiled, if it is small, and what became of it."""
    case, place = judged.case, failures / str(judged.case.number)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    lines = [f"case {case.number}, seed {case.seed}: {case}", f"qspace-nd {LINES[case.line][0]}"]
    lines += [f"{column}: {what}" for column, what in judged.wrong]
    lines += [f"exit {judged.outcome.status}", judged.outcome.text[-5000:]]
    (place / "case.txt").write_text("\n".join(lines), errors="replace")
    for name in _changed(trials.tree(study), trials.tree(there)):
        if (there / name).is_file() and (there / name).stat().st_size < SMALL:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(there / name, place / name)


def summary(done: Sequence[Judged], command: str, seconds: float) -> str:
    """The table by kind."""
    kinds = [kind for kind in KINDS if any(one.case.mutation.kind == kind for one in done)]
    rows = []
    for kind in [*kinds, "all"]:
        of = [one for one in done if kind in ("all", one.case.mutation.kind)]
        taken = Counter(one.taken for one in of)
        wrong = Counter(column for one in of for column in {column for column, _ in one.wrong})
        counts = [len(of), taken["refused"], taken["warned"], taken["accepted"]]
        rows.append([kind, *(f"{n:,}" for n in [*counts, *(wrong[column] for column in WRONG)])])
    header = ["kind", "cases", "refused", "warned", "accepted", "tracebacks", "hangs"]
    header += ["over memory", "outputs", "silent", "false alarms"]
    named = f"`{command}` ({seconds / 60:.0f} minutes)"
    return f"## Spoiled inputs\n\n{named}\n\n{table(header, rows)}\n"


def causes(done: Sequence[Judged]) -> str:
    """What is wrong, by what was spoiled: how often, and a case of each to replay."""
    found: dict[tuple[str, str, str], list[Judged]] = {}
    for one in done:
        for column, what in one.wrong:
            mutation = one.case.mutation
            found.setdefault((column, f"{mutation.kind}, {mutation.name}", what[:160]), []).append(
                one
            )
    return "\n".join(
        f"{column:11} {len(ones)} x [{ones[0].case.number}, {ones[0].case.line}] {name}: {what}"
        for (column, name, what), ones in sorted(found.items())
    )


def replay(fuzzer: Fuzzer, case: Case, failures: Path) -> bool:
    """Run a case again, and say what became of it and where it lies; give whether it is wrong."""
    judged = fuzzer.run(case, failures)
    print(f"{case}\n{judged.outcome.text}\nexit {judged.outcome.status}: {judged.wrong}")
    print(fuzzer.place(case))
    return bool(judged.wrong)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND")
    parser.add_argument("--replay", type=int, metavar="N", help="one case, and keep its folder")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--memory", type=float, default=0.5, help="GB beyond what is usual")
    parser.add_argument("--seconds", type=int, default=10, help="of a processor, for a case")
    parser.add_argument("--failures", type=Path, default=HERE / ".cache" / "fuzz")
    parser.add_argument("--no-section", action="store_true", help="leave RESULTS.md as it is")
    options = parser.parse_args()
    numbers = (n for n in itertools.count(options.first) if KINDS[n % len(KINDS)] in options.kinds)
    work = Path(tempfile.mkdtemp(prefix="fuzz-"))
    work.chmod(0o755)  # another user may look at it, in some of the cases
    try:
        trials.warm_up(work / "study")
        fuzzer = Fuzzer(work / "study", work, memory=options.memory, seconds=options.seconds)
        if options.replay is not None:
            return replay(fuzzer, Case.of(options.replay, options.seed), options.failures)
        begin, done = time.monotonic(), []
        cases = (Case.of(n, options.seed) for n in itertools.islice(numbers, options.cases))
        for judged in run(fuzzer, cases, options.jobs, options.failures):
            done.append(judged)
            if judged.wrong:
                print(f"{judged.case.number}: {judged.case}: {judged.wrong[0]}", flush=True)
    finally:
        if options.replay is None:
            shutil.rmtree(work, ignore_errors=True)
    command = f"python benchmarks/fuzz.py {' '.join(sys.argv[1:])}".strip()
    text = summary(done, command, time.monotonic() - begin)
    if not options.no_section:
        write_section(HERE / "RESULTS.md", "fuzz", text)
    print(f"\n{causes(done)}\n\n{text}")
    return any(one.wrong for one in done)


if __name__ == "__main__":
    sys.exit(main())
