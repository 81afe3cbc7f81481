"""`qspace-nd fit`: what it says, and what it makes of its options."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.conftest import Run

CONTROL_CHARACTERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f\x80-\x9f]")


@pytest.mark.parametrize(
    ("given", "tried"),
    [("", {"--kl-weight", "--neighbours"}), ("--kl-weight 0.1", {"--neighbours"})],
)
def test_tuning_tries_what_is_not_given_and_keeps_the_best(
    given: str, tried: set[str], folder: Path, call: Run
) -> None:
    outcome = call(
        f"fit healthy/*.nii.gz --tune --latents 16,4 {given} --epochs 1 --model tuned", folder
    )
    assert outcome.status == 0, outcome.stderr
    pattern = r"^  0\.\d{4}  (--.*?)(?:  \(dead latents: \d\))?$"
    trials = re.findall(pattern, outcome.stderr, re.MULTILINE)
    assert {word for trial in trials for word in trial.split() if word[:2] == "--"} == tried
    assert len(trials) == (9 if "--kl-weight" in tried else 3)
    settings = json.loads((folder / "tuned" / "model.json").read_text())["settings"]
    best = dict(setting.lstrip("-").split() for setting in trials[0].split(", "))
    assert {key: str(settings[key.replace("-", "_")]) for key in best} == best


def test_the_log_without_a_terminal_is_plain_text(folder: Path, call: Run) -> None:
    outcome = call("fit healthy/*.nii.gz --latents 16,4 --epochs 60 --model new-model", folder)
    assert outcome.status == 0
    assert outcome.stdout == ""
    assert not CONTROL_CHARACTERS.search(outcome.stderr)
    last = r"^Training: done in .*\(4 of 4 latent dimensions in use\)"
    assert re.search(last, outcome.stderr, re.M)
    assert "control-01_mask.nii.gz, control-02_mask.nii.gz" in outcome.stderr


@pytest.mark.parametrize("threads", [1, 2])
def test_a_model_and_its_map_do_not_depend_on_the_threads(
    threads: int, folder: Path, call: Run
) -> None:
    for line in (
        "fit healthy/*.nii.gz --epochs 1 --model new-model",
        "map patient.nii.gz --model new-model -o map.nii.gz",
    ):
        assert call(f"{line} --nthreads {threads}", folder).status == 0
    for new, old in (("map.nii.gz", "novelty.nii.gz"), ("map_mask.nii.gz", "novelty_mask.nii.gz")):
        assert (folder / new).read_bytes() == (folder / old).read_bytes()


@pytest.mark.parametrize("latents", ["x", "0", "16,0", "64,,8", "5"])
def test_widths_that_are_none_are_refused(latents: str, prepared: Path, call: Run) -> None:
    outcome = call(f"fit healthy --latents {latents}", prepared)
    assert outcome.status == 2
    assert "Invalid value for '--latents'" in outcome.stderr


def test_the_settings_of_the_command_are_the_models(folder: Path, call: Run) -> None:
    line = "fit healthy --latents 16,4 --kl-weight 0.5 --epochs 1 --validation 0.4 --seed 3"
    assert call(f"{line} --device cpu --model new -q", folder).status == 0
    settings = json.loads((folder / "new/model.json").read_text())["settings"]
    assert settings == settings | {
        "latents": 4,
        "hidden": [16],
        "kl_weight": 0.5,
        "epochs": 1,
        "validation": 0.4,
        "seed": 3,
        "device": "cpu",
    }
