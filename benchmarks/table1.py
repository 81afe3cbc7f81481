"""The paper's Table 1 on a simulated cohort: every score of three architectures, AUC by patient.

    QSPACE_ND_DATA=... python benchmarks/table1.py

Scores are computed on all voxels of a patient's brain, but those in `ON_A_SUBSET` on all lesion
voxels and `OTHERS` random others. What was computed is kept in --cache; a killed run resumes there.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from cohorts import Cohort, Design, Scan, real_lesion_masks
from results import write_section

from qspace_nd.evaluation.metrics import Case, Result, evaluate
from qspace_nd.evaluation.tables import table, table_markdown
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.network.recipes import PAPER_HIDDEN
from qspace_nd.scores.base import Cost
from qspace_nd.scores.catalogue import CATALOGUE, PAPER
from qspace_nd.scores.names import BASELINE_SCORE

LATENTS = (8, 16, 24)
OTHERS = 2000
ON_A_SUBSET = {name for name, entry in CATALOGUE.items() if entry.score.cost is Cost.DEAR}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, default=Path(__file__).with_name(".cache") / "table1")
    parser.add_argument("--seed", type=int, default=501)
    parser.add_argument("--controls", type=int, default=6)
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--voxel-size", type=float, default=3.0)
    arguments = parser.parse_args()
    design = Design(arguments.seed, arguments.voxel_size, arguments.controls, 0, arguments.patients)
    cohort = Cohort(design, real_lesion_masks())
    results: list[Result] = []
    for latents in LATENTS:
        model = fit(cohort, latents, arguments.cache)
        for patient in cohort.patients():
            for score in PAPER:
                if score == BASELINE_SCORE and latents != LATENTS[0]:
                    continue  # it has no latents
                results.append(measure(model, patient, score, arguments.cache))
    text = report(cohort, results)
    write_section(Path(__file__).with_name("RESULTS.md"), "table1", text)
    print(text)


def fit(cohort: Cohort, latents: int, cache: Path) -> NoveltyModel:
    folder = cache / f"model-{latents}"
    if not (folder / "model.json").exists():
        start = time.perf_counter()
        model = NoveltyModel(latents=latents, hidden=PAPER_HIDDEN[latents], neighbours=1)
        model.fit(cohort.reference_rows(), groups=cohort.groups)
        model.save(folder)
        print(f"{latents} latents: fitted in {time.perf_counter() - start:.0f} s", flush=True)
    return NoveltyModel.load(folder)


def measure(model: NoveltyModel, patient: Scan, score: str, cache: Path) -> Result:
    path = cache / f"{patient.name}-{model.latents}-{score}.npz"
    if not path.exists():
        rows = chosen(patient) if score in ON_A_SUBSET else np.arange(len(patient.x))
        start = time.perf_counter()
        novelty = model.novelty(patient.x[rows], score)
        seconds = time.perf_counter() - start
        np.savez(path, rows=rows, novelty=novelty)
        print(f"{patient.name}, {model.latents} latents, {score}: {seconds:.1f} s", flush=True)
    stored = np.load(path)
    values, scored = np.zeros(len(patient.x), np.float32), np.zeros(len(patient.x), bool)
    values[stored["rows"]], scored[stored["rows"]] = stored["novelty"], True
    case = Case(
        patient.name,
        score,
        patient.volume(values),
        patient.volume(patient.labels),
        patient.volume(scored),
        None if score == BASELINE_SCORE else model.latents,
    )
    return evaluate(case, float(abs(np.linalg.det(patient.affine[:3, :3]))))


def chosen(patient: Scan) -> np.ndarray:
    others = np.flatnonzero(~patient.labels)
    some = np.random.default_rng(0).choice(others, OTHERS, replace=False)
    return np.sort(np.concatenate([np.flatnonzero(patient.labels), some]))


def report(cohort: Cohort, results: list[Result]) -> str:
    lesions = ", ".join(str(int(patient.labels.sum())) for patient in cohort.patients())
    subset = ", ".join(f"`{name}`" for name in PAPER if name in ON_A_SUBSET)
    design = cohort.design
    command = (
        f"python benchmarks/table1.py --voxel-size {design.voxel_size:g} "
        f"--controls {design.reference} --patients {design.patients}"
    )
    return f"""## Every score, three architectures (the paper's Table 1)

`{command}`

A simulated cohort (seed {design.seed}, voxels of {design.voxel_size:g} mm, 46 channels) with real
lesion shapes: {len(cohort.reference_rows()):,} healthy voxels of {design.reference} controls as the
reference, and {design.patients} patients with {lesions} lesion voxels. AUC over the brain; at or
above the baseline in bold. The networks have the paper's widths and the default training, with one
seed each: another seed moves a row by about 0.02, so that smaller differences mean nothing.
Distances are to the nearest, as in the paper. On all lesion voxels and {OTHERS:,} random others of
a patient: {subset}.

{table_markdown(table(results))}"""


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
