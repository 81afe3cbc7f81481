"""An index that was signed again after somebody changed it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qspace_nd.model.index_kinds import require_kinds

Index = dict[str, Any]


@pytest.fixture
def index(prepared: Path) -> Index:
    return json.loads((prepared / "qspace-nd-model/model.json").read_text())


def conditions(index: Index) -> Index:
    """How the first healthy scan was made."""
    found: Index = index["acquisition"]["scans"][0]["conditions"]
    return found


def test_what_a_fit_writes_is_taken(index: Index) -> None:
    require_kinds(index)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda i: i.pop("weights"), "has no weights"),
        (lambda i: i.update(settings=[]), r"has as settings \[\], not an object"),
        (lambda i: i.update(weights="../x"), "has as weights '../x', not the name of a file"),
        (lambda i: i.update(reference=[]), r"has as reference \[\], not a list of one part"),
        (lambda i: i["reference"].append(7), r"has as reference\[3\] 7, not an object"),
        (lambda i: i["reference"][0].update(rows=-1), r"reference\[0\].rows -1, not a whole"),
        (lambda i: i["reference"][0].update(file="/etc/x"), r"reference\[0\].file '/etc/x', not"),
        (lambda i: i["network"].update(latents="8"), "has as network.latents '8', not a whole"),
        (lambda i: i["network"].update(latents=9), "other numbers of latents"),
        (lambda i: i["network"].update(activation="eval"), "network.activation 'eval', not one of"),
        (
            lambda i: i["training"].update(losses=[[1, 2]]),
            "training.losses .*, not a list of steps",
        ),
        (lambda i: i["settings"].update(preset="mine"), "settings.preset 'mine', not one of"),
        (lambda i: i["acquisition"].update(channel_means=[0.0]), "not a list of numbers other"),
        (lambda i: i["acquisition"]["channel_means"].pop(), "channel means and"),
        (lambda i: i["acquisition"]["scans"][0].pop("digest"), r"no acquisition.scans\[0\].digest"),
        (
            lambda i: i["acquisition"]["scans"][0].update(conditions=[]),
            "conditions .*not an object",
        ),
        (lambda i: conditions(i).update(voxel_sizes="123"), "voxel_sizes '123', not three numbers"),
        (lambda i: conditions(i).update(echo_time=10**400), "echo_time 1.*, not a number above 0"),
        (lambda i: conditions(i).update(residual=[0.1]), r"residual \[0.1\], not two numbers"),
        (lambda i: conditions(i).pop("scanner"), r"no acquisition.scans\[0\].conditions.scanner"),
        (lambda i: i["files"].clear(), "does not list its weights"),
    ],
)
def test_what_is_of_another_kind_is_said(
    index: Index, change: Callable[[Index], object], says: str
) -> None:
    spoiled = copy.deepcopy(index)
    change(spoiled)
    with pytest.raises(ValueError, match=says):
        require_kinds(spoiled)
