"""The options: each does something, is found under a heading, and has its owner's default."""

from __future__ import annotations

import inspect
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest

from qspace_nd.cli import COMMANDS, cli
from qspace_nd.cli.options import DEFAULT_MODEL, HEADINGS, TALK, Option
from qspace_nd.imaging.protocol import RAW, ROTATION_INVARIANT, ScanOptions
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.recipes import LATENTS, PRESETS
from qspace_nd.simulation.cohort import simulate_cohort
from qspace_nd.simulation.files import LAYOUTS
from qspace_nd.simulation.lesions import LESION_KINDS
from qspace_nd.simulation.nuisance import NUISANCES
from qspace_nd.system.machine import DEVICES, Machine
from qspace_nd.workflows import calibrate as calibrating
from qspace_nd.workflows import check as checking
from qspace_nd.workflows import clusters
from qspace_nd.workflows import fit as fitting
from qspace_nd.workflows import map as mapping
from qspace_nd.workflows.dask_runner import DaskCrew, DaskRunner
from qspace_nd.workflows.settings import SEARCHES, MapSettings
from tests.conftest import Run, of_extra

ALL = {"-q", "-v"}
"""What every command has, beside -h."""
SHARED = {"-q", "-v", "-f", "--seed", "--nthreads", "--device", "--memory", "--cluster"}
USED = {
    "fit": SHARED,
    "calibrate": SHARED - {"-f", "--seed"},
    "map": SHARED - {"--seed"},
    "eval": ALL | {"-f"},
    "report": ALL | {"-f"},
    "check": ALL | {"-f", "--nthreads"},
    "stack": ALL | {"-f"},
    "bids": SHARED,
    "scores": ALL,
    "simulate": ALL | {"-f", "--seed", "--nthreads"},
    "demo": SHARED - {"--cluster"},
}


def command_of(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
    assert isinstance(command, click.Command)
    return command


def options_of(name: str) -> list[Option]:
    return [param for param in command_of(name).params if isinstance(param, Option)]


def option_of(name: str, param: str) -> Option:
    return next(option for option in options_of(name) if option.name == param)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_the_shared_options_that_it_makes_use_of(name: str) -> None:
    assert {option.opts[0] for option in options_of(name)} & SHARED == USED[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_stands_under_a_heading_and_says_what_it_does(name: str) -> None:
    command = command_of(name)
    assert [*options_of(name)] == [p for p in command.params if not isinstance(p, click.Argument)]
    for option in options_of(name):
        assert option.heading in HEADINGS
        assert option.help


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("columns", [80, 120])
def test_the_help_fits_the_terminal(
    name: str, columns: int, call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = call(f"{name} -h", tmp_path).stdout.splitlines()
    assert max(map(len, lines)) <= columns
    shown = [line[:-1] for line in lines if line and line[0] != " " and line[-1] == ":"]
    assert shown == [heading for heading in HEADINGS if heading in shown]
    assert shown[-1] == TALK
    assert not [line for line in lines if "RANGE" in line or "_" in line.split("[default")[0]]


def test_words_may_be_joined_by_underscores_as_bids_apps_do(prepared: Path, call: Run) -> None:
    for word in ("--max-angle", "--max_angle"):
        outcome = call(f"check patient.nii.gz {word} 91", prepared)
        assert (outcome.status, "Invalid value for '--max-angle'" in outcome.stderr) == (2, True)


# --- Defaults and choices are those of the code that owns them


def defaults_of(function: Any) -> dict[str, Any]:
    return {name: one.default for name, one in inspect.signature(function).parameters.items()}


@pytest.mark.parametrize(
    ("name", "param", "default"),
    [
        ("fit", "validation", defaults_of(NoveltyModel)["validation"]),
        ("fit", "preset", defaults_of(NoveltyModel)["preset"]),
        ("fit", "latents", (LATENTS, defaults_of(NoveltyModel)["hidden"])),
        ("fit", "seed", defaults_of(NoveltyModel)["seed"]),
        ("fit", "epochs", defaults_of(NoveltyModel)["epochs"]),
        ("fit", "features", RAW),
        ("fit", "max_angle", ScanOptions().max_angle),
        ("fit", "gradients", ScanOptions().gradients),
        ("fit", "ignore_nonfinite", ScanOptions().ignore_nonfinite),
        ("fit", "device", Machine().device),
        ("fit", "memory", Machine().memory),
        ("fit", "nthreads", Machine().threads),
        ("map", "scores", ()),  # the default depends on --toward
        ("map", "neighbours", MapSettings().neighbours),
        ("map", "search", MapSettings().search),
        ("map", "smooth", MapSettings().smooth),
        *(
            ("simulate", param, defaults_of(simulate_cohort)[param])
            for param in (
                *("controls", "patients", "voxel_size", "layout", "kind", "snr", "seed"),
                *("anatomies", "mass_effect", "nuisance"),
            )
        ),
    ],
)
def test_defaults(name: str, param: str, default: Any) -> None:
    context = command_of(name).make_context(name, [], resilient_parsing=True)
    assert context.params[param] == default


@pytest.mark.parametrize(
    ("name", "param", "choices"),
    [
        ("fit", "features", [RAW, ROTATION_INVARIANT]),
        ("fit", "preset", list(PRESETS)),
        ("fit", "device", list(DEVICES)),
        ("map", "search", list(SEARCHES)),
        ("simulate", "layout", list(LAYOUTS)),
        ("simulate", "kind", list(LESION_KINDS)),
        ("simulate", "nuisance", list(NUISANCES)),
    ],
)
def test_choices(name: str, param: str, choices: list[str]) -> None:
    kind = option_of(name, param).type
    assert isinstance(kind, click.Choice)
    assert list(kind.choices) == choices


def test_what_the_help_says_of_presets_is_so() -> None:
    default, paper = PRESETS["default"], PRESETS["paper"]
    help_of = {param: option_of("fit", param).help or "" for param in ("kl_weight", "model")}
    assert (
        f"[default: {default.kl_weight:g}; {paper.kl_weight:g} with --preset paper]"
        in (help_of["kl_weight"])
    )
    neighbours = option_of("map", "neighbours").help or ""
    assert f"the model's: {default.neighbours}," in neighbours
    assert f"or {paper.neighbours} with --preset paper" in neighbours
    assert option_of("fit", "model").default == DEFAULT_MODEL == option_of("map", "model").default


# --- What they do


@pytest.mark.parametrize(
    ("given", "slurm", "threads"), [("--nthreads 3", "5", 3), ("", "5", 5), ("", "", 7)]
)
def test_threads_are_limited_before_any_library_is_loaded(
    given: str,
    slurm: str,
    threads: int,
    prepared: Path,
    call: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    limits = []
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(7), raising=False)
    monkeypatch.setattr(
        checking, "check_scans", lambda *_, **__: limits.extend(map(os.environ.get, names)) or []
    )
    assert call(f"check patient.nii.gz {given}", prepared).status == 0
    assert limits == [str(threads)] * 3


def test_the_machine_reaches_the_work(
    prepared: Path, tmp_path: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []
    monkeypatch.setattr(mapping, "map_scans", lambda *_, machine, **__: given.append(machine))
    line = "map patient.nii.gz --device cpu --memory 1.5 --nthreads 2"
    assert call(f"{line} -o {tmp_path}/map.nii.gz", prepared).status == 0
    assert given == [Machine("cpu", 1_500_000_000, 2)]


@pytest.mark.parametrize("slurm", [None, "8"])
@pytest.mark.parametrize(
    ("given", "machine"),
    [
        ("", Machine("cpu", 6_000, 3)),
        ("--nthreads 2", Machine("cpu", 6_000, 2)),
        ("--nthreads 2 --memory 1.5", Machine("cpu", 1_500_000_000, 2)),
    ],
)
def test_workers_share_the_machine_or_take_what_is_asked_for(
    given: str,
    machine: Machine,
    slurm: str | None,
    prepared: Path,
    call: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_extra("distributed")
    told: list[object] = []
    monkeypatch.setattr(clusters, "remaining", lambda _: 12_000)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    if slurm is not None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", slurm)
        machine = machine if "--nthreads" in given else replace(machine, threads=4)
    monkeypatch.setattr(
        mapping, "map_scans", lambda *_, machine, runner, **__: told.extend((machine, runner))
    )
    workers = f"--cluster local:2 --device cpu {given}"
    assert call(f"map patient.nii.gz -o new.nii.gz {workers}", prepared).status == 0
    assert told == [machine, DaskRunner(clusters.Local(2))]


@pytest.mark.parametrize("given", ["", "--nthreads 3 --memory 2"])
def test_who_fits_has_all_and_each_worker_its_share(
    given: str, folder: Path, bids_cohort: Path, call: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_extra("distributed")
    told: list[object] = []
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "4")

    def hear(*_: object, machine: Machine, crew: object, **__: object) -> None:
        told.extend((machine, crew))

    monkeypatch.setattr(fitting, "fit_scans", hear)
    monkeypatch.setattr(calibrating, "calibrate_model", hear)
    bids = f"bids {bids_cohort} out group --where group=control"
    lines = ("fit healthy --model new", "calibrate", bids)
    for line in lines:
        assert call(f"{line} --cluster local:2 --device cpu {given}", folder).status == 0, line
    asked = Machine("cpu", round(2e9), 3) if given else Machine("cpu")
    mine = asked if given else Machine("cpu", threads=4)
    assert told == [mine, DaskCrew(clusters.Local(2), asked)] * len(lines)
