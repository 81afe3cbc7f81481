from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console
from rich.table import Table as RichTable

from qspace_nd.cli.printing import render_froc, render_overlaps, render_recall, render_table
from qspace_nd.errors import InputError
from qspace_nd.evaluation.froc import froc
from qspace_nd.evaluation.metrics import Result, evaluate
from qspace_nd.evaluation.tables import table, table_markdown, table_tsv, to_json, to_tsv
from tests.evaluation.conftest import random_case

LONG_LABEL = "latent-placed-directed-distance, toward demyelination, without the place, 6 mm"
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


def calibrated_results(patients: int = 2) -> list[Result]:
    """Results of calibrated maps that know what they show together."""
    cases = [random_case(seed, f"sub-{seed}") for seed in range(patients)]
    cases = [replace(one, neglogp=one.novelty / 2) for one in cases]
    curve = froc(*zip(*((one.novelty, one.labels, one.mask) for one in cases), strict=True))
    return [
        replace(evaluate(one, 8.0), froc=curve.of(np.array([at]))) for at, one in enumerate(cases)
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
    for drawn in (
        render_table(results),
        render_table(results, plain=True),
        render_overlaps(results),
        render_recall(results),
        render_froc(results),
    ):
        text = text_of(drawn)
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        assert all(score in text for score in scores)


@pytest.mark.parametrize("region", ["brain", "white_matter_in_the_space_of_the_template"])
@pytest.mark.parametrize("regions", [1, 2])
def test_no_long_name_or_large_count_makes_a_table_wider_than_80(region, regions):
    many = replace(calibrated_results()[0], lesions=12345, lesions_found=12340, score=LONG_LABEL)
    others = [replace(many, region=name) for name in [region, "other"][:regions]]
    results = [*others, *(replace(one, score="input-distance") for one in others)]
    for draw in (render_table, render_overlaps, render_recall, render_froc):
        text = text_of(draw(results))
        assert max(map(len, text.splitlines())) <= 80
        assert "…" not in text
        letters = "".join(text.split())
        assert "demyelination" in letters and "6mm" in letters


def test_sizes_that_no_lesion_has_are_left_out_and_so_are_all_where_they_do_not_fit():
    results = calibrated_results()
    text = text_of(render_recall(results))
    assert "≥5" in text and "30–" in text and "<30" not in text and "≥1000" not in text
    narrow = text_of(render_recall(results, width=40))
    assert "≥5" in narrow and "All" in narrow and "30–" not in narrow
    (row,) = table(results).rows
    line = next(line for line in text.splitlines() if line.startswith("latent-distance"))
    assert line.split()[-2:] == [
        f"{row.large_lesions_found}/{row.large_lesions}",
        f"{row.lesions_found}/{row.lesions}",
    ]


def test_overlaps_are_shown_at_calibrated_thresholds_where_they_are_known():
    first, second = calibrated_results()
    text = text_of(render_overlaps([first, second]))
    line = next(line for line in text.splitlines() if "0.1 % of healthy people" in line)
    mean = np.mean([one.overlaps["p_0.001"].recall for one in (first, second)])
    assert f"{mean:.3f}" in line.split()
    plain = [
        replace(one, overlaps={name: one.overlaps[name] for name in ("best_dice", "1pct")})
        for one in (first, second)
    ]
    assert "healthy people" not in text_of(render_overlaps(plain))
    line = next(
        line
        for line in text_of(render_overlaps([first, plain[1]])).splitlines()
        if "0.1 % of healthy people" in line
    )
    assert line.split()[-3:] == ["–"] * 3  # one patient's mean is not compared with two patients'


def test_lesions_found_at_few_false_clusters_are_shown():
    results = calibrated_results()
    (row,) = table(results).rows
    line = next(
        line
        for line in text_of(render_froc(results)).splitlines()
        if line.startswith("latent-distance")
    )
    lesions = row.froc.lesions.sum()
    assert lesions == row.large_lesions
    told = [f"{round(row.froc.at(number) * lesions)}/{lesions}" for number in (1, 2, 5)]
    assert line.split()[-3:] == told
    assert told[-1] != f"0/{lesions}"


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


def test_the_tsv_has_columns_of_what_is_known_alone():
    results = calibrated_results()
    lines = list(csv.DictReader(to_tsv(results).splitlines(), delimiter="\t"))
    curve = table(results).rows[0].froc
    for at, (line, one) in enumerate(zip(lines, results, strict=True)):
        assert float(line["recall_p_0.01"]) == pytest.approx(
            one.overlaps["p_0.01"].recall, rel=1e-5
        )
        assert float(line["precision_best_dice"]) == pytest.approx(
            one.overlaps["best_dice"].precision, rel=1e-5
        )
        for number in (1, 2, 5):
            told = int(line[f"large_lesions_found_at_{number}_false"])
            assert told == curve.hits_at(number)[at]
    other = replace(results[1], score="other", froc=None, overlaps={})
    lines = list(csv.DictReader(to_tsv([results[0], other]).splitlines(), delimiter="\t"))
    assert lines[1]["recall_p_0.01"] == lines[1]["large_lesions_found_at_1_false"] == "n/a"
    assert "p_0.01" not in to_tsv([other]) and "false" not in to_tsv([other])


def test_the_json_tells_overlaps_and_lesions_found_at_few_false_clusters():
    results = calibrated_results()
    read = json.loads(json.dumps(to_json(results), allow_nan=False))
    (mean,) = read["means"]
    for number in (1, 2, 5):
        name = f"large_lesions_found_at_{number}_false"
        assert mean[name] == sum(one[name] for one in read["results"])
    assert mean["overlaps"].keys() == {"best_dice", "1pct", "p_0.01", "p_0.001"}
    for figure in ("recall", "precision", "dice"):
        each = [one["overlaps"]["p_0.01"][figure] for one in read["results"]]
        assert mean["overlaps"]["p_0.01"][figure] == pytest.approx(np.mean(each))
    assert all(name in read["definitions"]["overlaps"] for name in mean["overlaps"])
    assert read["definitions"]["best_dice"].startswith("highest Dice overlap")
    assert len(mean["froc"]["false_clusters"]) == len(mean["froc"]["found"])


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
