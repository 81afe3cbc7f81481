"""Kill commands at random moments, and run two at once: is anything lost, or other than it should?

    python benchmarks/interruptions.py --kills 200 --rounds 50
    python benchmarks/interruptions.py --quick            to see that it runs

A command that was killed (SIGKILL) must leave no file by half and nothing of what was there before
changed; the same line again must end well and leave the same bytes as a run that nothing disturbed,
and no hidden file. Two commands at once must leave what they leave one after the other, in one
order or the other; one may be refused, if the other's outcome is then as if it had been alone.
Processes are forked from one that has all libraries loaded: most of their time, and so most of the
kills, is in their work.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trials
from results import table, write_section
from trials import CONTROLS, Outcome

HERE = Path(__file__).parent
TWO = "healthy/control-01.nii.gz healthy/control-02.nii.gz"
LINES = {
    "fit": f"fit {TWO} --epochs 1 --model new",
    "fit --add": "fit --add healthy/control-04.nii.gz",
    "fit --force": f"fit {TWO} --epochs 1 --force",
    "map, one": "map patient.nii.gz -o map.nii.gz --smooth 12",
    "map, many": f"map patient.nii.gz {CONTROLS} -o many",
    "map, BIDS": "map --bids bids -o bids-maps",
    "eval": "eval novelty.nii.gz --labels lesions.nii.gz -o figures",
}
MORE = {
    "fit --add another": "fit --add patient.nii.gz",
    "fit others": "fit healthy/control-03.nii.gz healthy/control-04.nii.gz --epochs 1 --model new",
    "map": "map patient.nii.gz -o map.nii.gz --smooth 12",
    "map, many the other way": "map healthy/control-04.nii.gz patient.nii.gz -o many",
}
PAIRS = (
    ("fit --add", "fit --add another"),
    ("fit --add", "fit --add"),
    ("fit --add", "fit --force"),
    ("fit --force", "fit --force"),
    ("fit", "fit others"),
    ("fit", "fit"),
    ("map, one", "fit --force"),
    ("map, one", "fit --add another"),
    ("map, many", "fit --force"),
    ("map, one", "map"),
    ("map, many", "map, many the other way"),
    ("map, BIDS", "map, BIDS"),
    ("eval", "eval"),
    ("eval", "map, one"),
)
Contents = dict[str, str]


@dataclass(frozen=True)
class Undisturbed:
    """What a line leaves that nothing disturbs, and how long it takes."""

    contents: Contents
    seconds: float


class Study:
    """A study, and copies of it to be worked on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()
        self.contents = contents(folder)

    def copy(self) -> Path:
        copy = self._folder.with_name(f"copy-{next(self._numbers)}") / "study"
        shutil.copytree(self._folder, copy)
        return copy

    def undisturbed(self, *names: str) -> tuple[Undisturbed, list[Outcome]]:
        """Run lines one after another on a copy."""
        folder, start = self.copy(), time.monotonic()
        outcomes = [finish(begin(name, folder)) for name in names]
        taken = time.monotonic() - start
        found = contents(folder)
        shutil.rmtree(folder.parent)
        return Undisturbed(found, taken), outcomes


@dataclass(frozen=True)
class Running:
    child: int
    log: Path


def begin(name: str, folder: Path, which: str = "") -> Running:
    log = folder.with_name(f"log{which}")
    return Running(trials.start(shlex.split((LINES | MORE)[name]), folder, log), log)


def finish(running: Running) -> Outcome:
    return trials.wait_for(running.child, running.log)


def contents(folder: Path) -> Contents:
    """A hash of each file below `folder`, and what is a folder."""
    return {
        str(path.relative_to(folder)): "folder"
        if path.is_dir()
        else hashlib.blake2b(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
    }


def unlike(found: Contents, *expected: Contents) -> str:
    """What is other than in the most alike of what was expected; empty where one is the same."""
    differences = [
        sorted(name for name in found.keys() | one.keys() if found.get(name) != one.get(name))
        for one in expected
    ]
    least = min(differences, key=len)
    return ", ".join(trials.plain(name) for name in least[:4])


def kill_once(name: str, study: Study, calm: Undisturbed, random: np.random.Generator) -> list[str]:
    """Kill a line at a random moment, run it again; say what is wrong then."""
    folder = study.copy()
    running = begin(name, folder)
    time.sleep(random.uniform(0, 1.1 * calm.seconds))
    os.kill(running.child, signal.SIGKILL)
    killed = finish(running)
    there = contents(folder)
    wrong = [f"broken: {fault}" for fault in trials.faults(folder, visible(there, study.contents))]
    lost = sorted(file for file in study.contents if file in calm.contents and file not in there)
    wrong += [f"lost: {trials.plain(lost[0])}"] if lost else []
    was_done = without_hidden(there) == without_hidden(calm.contents)
    again = finish(begin(name, folder))
    found = contents(folder)
    if again.status and not was_done:
        wrong.append(f"the rerun fails: {again.text.strip().splitlines()[-1:]}")
    elif different := unlike(found, calm.contents):
        hidden = [n for n in found if is_hidden(n)]
        wrong.append(f"left behind: {trials.plain(hidden[0])}" if hidden else f"bytes: {different}")
    shutil.rmtree(folder.parent)
    return wrong if killed.status == -signal.SIGKILL else wrong or ["-"]


def is_hidden(name: str) -> bool:
    return any(part.startswith(".") and part != ".bidsignore" for part in Path(name).parts)


def without_hidden(found: Contents) -> Contents:
    return {name: state for name, state in found.items() if not is_hidden(name)}


def visible(found: Contents, before: Contents) -> list[str]:
    return [n for n, state in found.items() if before.get(n) != state and not is_hidden(n)]


def both_at_once(
    pair: Sequence[str],
    study: Study,
    calm: Sequence[Contents],
    alone: Sequence[Contents],
    wait: float,
) -> list[str]:
    """Run two lines at once; say what is wrong then.

    `calm` are the outcomes in one order and the other, `alone` those of the first and the second.
    """
    folder = study.copy()
    first = begin(pair[0], folder, "1")
    time.sleep(max(wait, 0))
    second = begin(pair[1], folder, "2")
    outcomes = [finish(first), finish(second)]
    allowed = [*calm]
    for number, outcome in enumerate(outcomes):
        allowed += [alone[1 - number]] if outcome.status else []
    wrong = []
    for name, outcome in zip(pair, outcomes, strict=True):
        if outcome.status not in (0, 1, 2) or trials.PYTHON.search(outcome.text):
            wrong.append(f"{name}: exit {outcome.status}, {outcome.text.strip().splitlines()[-1:]}")
    if all(outcome.status for outcome in outcomes):
        wrong.append(f"both refused: {outcomes[0].text.strip().splitlines()[-1:]}")
    elif different := unlike(contents(folder), *allowed):
        wrong.append(
            f"other than one after the other (exits {[o.status for o in outcomes]}): {different}"
        )
    shutil.rmtree(folder.parent)
    return wrong


def kills(study: Study, number: int, random: np.random.Generator) -> list[list[str]]:
    """Kill each line in turn, `number` times in all; a row a line, with what was wrong."""
    rows = []
    for place, name in enumerate(LINES):
        calm, _ = study.undisturbed(name)
        other, _ = study.undisturbed(name)
        times = len(range(place, number, len(LINES)))
        found = [kill_once(name, study, calm, random) for _ in range(times)]
        too_late = sum(one == ["-"] for one in found)
        wrong = Counter(what for one in found for what in one if what != "-")
        if varying := unlike(other.contents, calm.contents):
            wrong[f"not the same bytes undisturbed: {varying}"] += 1
        rows.append(_row(name, times, too_late, sum(bool(o) and o != ["-"] for o in found), wrong))
    return rows


def rounds(study: Study, number: int, random: np.random.Generator) -> list[list[str]]:
    """Run pairs at once, each in turn, `number` rounds in all."""
    rows = []
    for place, pair in enumerate(PAIRS[:number]):
        calm = [study.undisturbed(*order)[0].contents for order in (pair, pair[::-1])]
        alone = [study.undisturbed(name)[0] for name in pair]
        times = len(range(place, number, len(PAIRS)))
        found = [
            both_at_once(
                pair,
                study,
                calm,
                [one.contents for one in alone],
                random.uniform(-0.3, 1) * alone[0].seconds,
            )
            for _ in range(times)
        ]
        wrong = Counter(what for one in found for what in one)
        rows.append(_row(" and ".join(pair), times, 0, sum(map(bool, found)), wrong))
    return rows


def _row(name: str, times: int, too_late: int, failed: int, wrong: Counter[str]) -> list[str]:
    for what, often in wrong.items():
        print(f"{name}: {often} x {what}", flush=True)
    return [name, str(times), str(too_late), str(failed)]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="7 kills, 3 rounds, no section")
    options = parser.parse_args()
    if options.quick:
        options.kills, options.rounds = 7, 3
    random = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="interruptions-") as work:
        trials.warm_up(Path(work) / "study")
        study = Study(Path(work) / "study")
        killed = kills(study, options.kills, random)
        paired = rounds(study, options.rounds, random)
    text = (
        "## Interruptions\n\n"
        f"`python benchmarks/interruptions.py --kills {options.kills} "
        f"--rounds {options.rounds}`\n\n"
        "Killed at a random moment, then run again:\n\n"
        f"{table(['', 'kills', 'done before', 'failed'], killed)}\n\n"
        "Two at once:\n\n"
        f"{table(['', 'rounds', 'failed'], [[name, n, bad] for name, n, _, bad in paired])}\n"
    )
    print(f"\n{text}")
    if not options.quick:
        write_section(HERE / "RESULTS.md", "interruptions", text)
    return any(row[-1] != "0" for row in (*killed, *paired))


if __name__ == "__main__":
    sys.exit(main())
