from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table as RichTable

from qspace_nd.cli.printing import render_recall, render_table
from qspace_nd.errors import InputError
from qspace_nd.evaluation.metrics import Result, evaluate
from qspace_nd.evaluation.tables import table, table_markdown, table_tsv, to_json, to_tsv
from tests.evaluation.conftest import random_case

LONGEST_SCORES = [
    "input-distance",
    "latent-distance",
    "recon-error-qhat-phat-min",
    "generated-likelihood-bounded",
]


def results_of(
    scores: list[str], patients: list[str], latents: tuple[int, ...] = (8,)
) -> list[Result]:
    one = evaluate(random_case(), 8.0)
    values = iter(np.linspace(0.5, 0.99, len(scores) * len(patients) * len(latents)))
    return [
        replace(one, score=score, patient=patient, latents=number, auc=float(next(values)))
        for score in scores
        for number in latents
        for patient in patients
    ]


def text_of(drawn: RichTable, width: int = 80) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(drawn)
    return capture.get()


def test_the_table_has_the_baseline_first_then_scores_as_given_by_rising_latents():
    results = results_of(["latent-kl", "input-distance", "latent-density"], ["b", "a"], (16, 8))
    summary = table(results)
    assert summary.patients == ("b", "a")
    assert [(row.score, row.latents) for row in summary.rows] == [
        (score, latents)
        for score in ("input-distance", "latent-kl", "latent-density")
        for latents in (8, 16)
    ]


def test_values_at_or_above_the_baseline_as_shown_are_bold():
    one = evaluate(random_case(), 8.0)
    aucs = {"input-distance": 0.8004, "above": 0.81, "equal as shown": 0.7996, "below": 0.7994}
    summary = table(replace(one, score=score, auc=auc) for score, auc in aucs.items())
    assert [row.cells[0].bold for row in summary.rows] == [True, True, True, False]
    assert [row.mean.bold for row in summary.rows] == [True, True, True, False]


def test_without_a_baseline_nothing_is_bold():
    summary = table(results_of(["latent-kl", "latent-density"], ["a"]))
    assert not any(cell.bold for row in summary.rows for cell in (*row.cells, row.mean))


def test_a_model_is_held_against_its_own_baseline_and_else_against_the_first():
    one = evaluate(random_case(), 8.0)
    baselines = [("input-distance", 8, 0.8), ("input-distance", 16, 0.6)]
    rows = [*baselines, ("s", 8, 0.7), ("s", 16, 0.7), ("s", 24, 0.7)]
    summary = table(replace(one, score=s, latents=n, auc=auc) for s, n, auc in rows)
    assert [row.mean.bold for row in summary.rows] == [True, True, False, True, False]


def test_means_are_over_patients_counts_are_summed_and_regions_stay_apart():
    first = [evaluate(random_case(seed, f"sub-{seed}"), 8.0) for seed in range(3)]
    second = [
        evaluate(random_case(seed + 5, f"sub-{seed}", region="white matter"), 8.0)
        for seed in range(3)
    ]
    summary = table([*first, *second])
    assert [row.region for row in summary.rows] == ["brain", "white matter"]
    for row, group in zip(summary.rows, (first, second), strict=True):
        assert row.mean.auc == pytest.approx(np.mean([one.auc for one in group]))
        assert row.best_dice == pytest.approx(np.mean([one.best_dice for one in group]))
        assert row.lesions == sum(one.lesions for one in group)
        assert sum(size.found for size in row.recall_by_size) == row.lesions_found


def test_a_row_that_lacks_a_patient_has_no_mean():
    summary = table(results_of(["input-distance", "latent-kl"], ["a", "b"])[:-1])
    assert summary.rows[1].cells[1].auc is None
    assert summary.rows[1].mean.auc is None and summary.rows[1].average_precision is None
    assert summary.rows[0].mean.auc is not None


def test_two_maps_of_one_patient_and_score_are_refused():
    one = evaluate(random_case(), 8.0)
    with pytest.raises(InputError, match=r"Two latent-distance \(8 latents\) maps .* sub-01; give"):
        table([one, one])
    with pytest.raises(InputError, match="no result to tabulate; evaluate at least one map"):
        table([])


# --------------------------------------------------------------------------------- the terminal


@pytest.mark.parametrize(
    ("scores", "patients", "latents"),
    [
        (["latent-distance"], ["patient"], (8,)),
        (["latent-distance"], ["sub-01", "sub-02", "sub-03"], (8,)),
        (["input-distance", "latent-distance"], ["sub-01", "sub-02", "sub-03"], (8,)),
        (LONGEST_SCORES, ["sub-01", "sub-02", "sub-03"], (8, 16, 24)),
        (LONGEST_SCORES, [f"sub-{at:02}" for at in range(40)], (8, 16, 24)),
    ],
)
def test_the_tables_fit_80_columns_with_no_score_cut(scores, patients, latents):
    results = results_of(scores, patients, latents)
    for drawn in (render_table(results), render_table(results, plain=True), render_recall(results)):
        text = text_of(drawn)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert all(score in text for score in scores)


def test_one_score_is_shown_by_patient_with_all_figures_and_the_mean():
    results = [evaluate(random_case(seed, f"sub-{seed}"), 8.0) for seed in range(2)]
    lines = text_of(render_table(results)).splitlines()
    assert lines[0].strip() == "latent-distance (8 latents), in the brain"
    for one in results:
        line = next(line for line in lines if line.startswith(one.patient)).split()
        figures = [one.auc, one.average_precision, one.best_dice]
        assert line[1:4] == [f"{figure:.3f}" for figure in figures]
        assert line[4] == f"{one.lesions_found}/{one.lesions}"
    mean = next(line for line in lines if line.startswith("mean")).split()
    assert mean[1] == f"{np.mean([one.auc for one in results]):.3f}"


def test_several_scores_are_shown_by_score_with_what_fits():
    results = results_of(["input-distance", "latent-distance"], ["sub-01", "sub-02", "sub-03"])
    text = text_of(render_table(results))
    assert all(header in text for header in ("sub-01", "sub-03", "Mean", "AP", "Dice", "Lesions"))
    text = text_of(render_table(results, width=60))
    assert "sub-01" in text and "Dice" not in text
    many = text_of(render_table(results_of(["input-distance", "b"], list("abcdefghijklmno"))))
    assert "Least" in many and "Greatest" in many


def test_bold_type_has_a_substitute_for_plain_terminals():
    results = results_of(["input-distance", "latent-distance"], ["a", "b"])
    assert "*0." not in text_of(render_table(results))
    assert text_of(render_table(results, plain=True)).count("*0.") == 6


def test_names_that_look_like_markup_are_shown_as_they_are():
    results = results_of(["latent-distance"], ["[red]a", "b"])
    assert "[red]a" in text_of(render_table(results))


# ------------------------------------------------------------------------------------- in files


def test_the_tsv_has_a_line_for_each_result_and_reads_back():
    results = [
        replace(one, latents=latents)
        for latents in (None, 8)
        for one in (evaluate(random_case(seed, f"sub-{seed}"), 8.0) for seed in range(2))
    ]
    lines = list(csv.DictReader(to_tsv(results).splitlines(), delimiter="\t"))
    assert len(lines) == 4
    assert [line["latents"] for line in lines] == ["n/a", "n/a", "8", "8"]
    for line, one in zip(lines, results, strict=True):
        assert float(line["auc"]) == pytest.approx(one.auc, rel=1e-5)
        assert int(line["lesions_found"]) == one.lesions_found


def test_the_table_is_written_as_tsv_and_as_markdown():
    results = results_of(["input-distance", "latent-distance"], ["a", "b"])
    summary = table(results[:-1])
    lines = [line.split("\t") for line in table_tsv(summary).splitlines()]
    assert lines[0] == ["region", "score", "latents", "a", "b", "mean"]
    assert lines[1] == ["brain", "input-distance", "8", "0.5", "0.663333", "0.581667"]
    assert lines[2][4:] == ["n/a", "n/a"]
    markdown = table_markdown(summary).splitlines()
    assert markdown[0] == "| Score | Latents | a | b | Mean |"
    assert markdown[2].startswith("| input-distance | 8 | **0.500** |")
    assert markdown[3].endswith("| – | – |")


def test_the_json_holds_every_figure_and_the_means_and_no_value_that_json_lacks():
    results = [evaluate(random_case(seed, f"sub-{seed}"), 8.0) for seed in range(2)]
    read = json.loads(json.dumps(to_json(results), allow_nan=False))
    assert [one["patient"] for one in read["results"]] == ["sub-0", "sub-1"]
    for record, one in zip(read["results"], results, strict=True):
        assert record["auc"] == one.auc
        assert record["best_dice"] == one.best_dice
        assert len(record["each_lesion"]) == one.lesions
        assert record["recall_by_size"][-1]["maximum"] is None
        assert len(record["roc"]["true_positive_rate"]) == len(one.true_positive_rate)
    (mean,) = read["means"]
    assert mean["patients"] == 2
    assert mean["auc"] == pytest.approx(np.mean([one.auc for one in results]))
