"""The whole method on a small simulated cohort, by the same calls as the commands make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from qspace_nd.evaluation.metrics import Result
from qspace_nd.layouts.maps import MapFiles
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.store import require_new
from qspace_nd.progress import SILENT, Progress
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.simulation.cohort import simulate_cohort
from qspace_nd.system.writing import require_writable
from qspace_nd.workflows.fit import evaluate_maps, fit_scans, map_scans

CONTROLS, PATIENTS = 6, 2
VOXEL_SIZE = 3.0  # mm


@dataclass(frozen=True)
class Demo:
    """What the demo found, and where it lies."""

    cohort: Path
    model: Path
    maps: list[MapFiles]
    evaluation: Path
    results: list[Result]

    def auc(self, score: str) -> float:
        """Mean area under the ROC curve over the patients."""
        return fmean(result.auc for result in self.results if result.score == score)

    def summary(self) -> list[str]:
        """The outcome and the paths, one a line."""
        return [
            f"Mean AUC: {DEFAULT_SCORE} {self.auc(DEFAULT_SCORE):.3f}, "
            f"{BASELINE_SCORE} (the baseline) {self.auc(BASELINE_SCORE):.3f}",
            f"Scans and labels: {self.cohort}/",
            f"Model:            {self.model}/",
            *(f"Novelty map:      {files.maps[DEFAULT_SCORE]}" for files in self.maps),
            f"Tables, figures:  {self.evaluation}/",
        ]


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    device: str = "auto",
    force: bool = False,
    progress: Progress = SILENT,
) -> Demo:
    """Simulate a cohort in `folder`, fit, map the patients, evaluate.

    Raises
    ------
    OutputError
        Something of an earlier demo is there and `force` is not set.
    """
    cohort_folder, model_folder = folder / "cohort", folder / "model"
    maps_folder, evaluation_folder = folder / "maps", folder / "eval"
    require_writable(
        [
            cohort_folder / "dataset_description.json",
            maps_folder / "dataset_description.json",
            evaluation_folder / "eval.json",
        ],
        force=force,
    )
    require_new(model_folder, force=force)
    cohort = simulate_cohort(
        cohort_folder,
        controls=CONTROLS,
        patients=PATIENTS,
        voxel_size=VOXEL_SIZE,
        seed=seed,
        force=force,
        progress=progress,
    )
    model = NoveltyModel(seed=seed, device=device)
    fit_scans(cohort.controls, model, model_folder, force=force, progress=progress)
    maps = map_scans(
        cohort.patients,
        model_folder,
        maps_folder,
        scores=[BASELINE_SCORE, DEFAULT_SCORE],
        device=device,
        force=force,
        progress=progress,
    )
    evaluation = evaluate_maps(
        [path for files in maps for path in files.maps.values()],
        cohort.labels,
        evaluation_folder,
        force=force,
        progress=progress,
    )
    return Demo(cohort_folder, model_folder, maps, evaluation_folder, evaluation.results)
