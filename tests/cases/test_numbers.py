"""Numbers that are none, or beyond all sense, in every option that takes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from qspace_nd.cli import COMMANDS, cli
from qspace_nd.cli.values import Number
from qspace_nd.errors import InputError
from qspace_nd.imaging.protocol import ScanOptions
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.simulation.head import require_snr
from qspace_nd.system.machine import Machine
from tests.conftest import Run, tree_of, voxels

NAN, INF = float("nan"), float("inf")
WORDS = {"bids": "cohort out group", "fit": "healthy", "simulate": "new", "scores": "", "demo": ""}


def numeric() -> list[tuple[str, str]]:
    """Every command, and each of its options that takes a number."""
    found = []
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
        found += [(name, p.opts[0]) for p in command.params if isinstance(p.type, Number)]
    return found


def test_all_options_of_numbers_are_looked_at() -> None:
    options = {option for _, option in numeric()}
    assert options >= {"--max-angle", "--smooth", "--memory", "--kl-weight", "--validation"}
    assert options >= {"--voxel-size", "--snr", "--neighbours", "--nthreads", "--seed", "--epochs"}
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)  # type: ignore[attr-defined]
        plain = (click.types.FloatParamType, click.types.IntParamType)
        assert not [
            p.name
            for p in command.params
            if isinstance(p.type, plain) and not getattr(p, "count", False)
        ]


@pytest.mark.parametrize(("name", "option"), numeric())
def test_a_number_that_is_none_is_refused_in_a_sentence(
    name: str, option: str, prepared: Path, call: Run
) -> None:
    before = tree_of(prepared)
    for value in ("nan", "inf", "-inf", "1e400", "-1", "1" * 5000, "x"):
        done = call(f"{name} {WORDS.get(name, 'patient.nii.gz')} {option}={value}", prepared)
        assert done.status == 2, (value, done.stderr)
        assert f"Invalid value for '{option}'" in done.stderr
        assert " is wanted." in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
    assert tree_of(prepared) == before


@pytest.mark.parametrize("left_out", [None, "a"])
def test_the_reference_without_a_subject_counts(left_out: str | None) -> None:
    x = voxels(40)
    model = NoveltyModel(latents=2, hidden=(4,), epochs=1).fit(x, groups=["a", "b"] * 20)
    most = 40 if left_out is None else 20
    how: Any = {"leave_out": left_out}
    assert model.novelties(x, ["input-distance"], neighbours=most, **how)
    with pytest.raises(InputError, match=f"the healthy reference has {most} voxels"):
        model.novelties(x, ["input-distance"], neighbours=most + 1, **how)
    with pytest.raises(InputError, match="the healthy reference has 40 voxels"):
        NoveltyModel(latents=2, hidden=(4,), neighbours=41).fit(x)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: ScanOptions(max_angle=NAN), "max_angle is nan degrees; a number from 0 to 90"),
        (lambda: ScanOptions(max_angle=INF), "max_angle is inf degrees"),
        (lambda: ScanOptions(b0_threshold=NAN), "b0_threshold is nan s/mm²"),
        (lambda: Machine(memory=NAN), "memory is nan; bytes, more than 0"),  # type: ignore[arg-type]
        (lambda: Machine(memory=0), "memory is 0; bytes, more than 0"),
        (lambda: Machine(threads=0), "threads is 0; 1 or more"),
        (lambda: require_snr(INF), "The signal-to-noise ratio is inf"),
        (
            lambda: NoveltyModel(kl_weight=INF).fit(voxels(30)),
            "kl_weight is inf; a number",
        ),
        (lambda: NoveltyModel(kl_weight=NAN).fit(voxels(30)), "kl_weight is nan"),
        (lambda: NoveltyModel(validation=NAN).fit(voxels(30)), "validation is nan"),
    ],
)
def test_so_they_are_from_python(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()
