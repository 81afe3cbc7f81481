"""The whole method on a small simulated cohort, by the same calls as the commands make."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from qspace_nd.evaluation.metrics import Result
from qspace_nd.layouts.maps import MapFiles
from qspace_nd.layouts.names import DESCRIPTION
from qspace_nd.model.novelty_model import NoveltyModel
from qspace_nd.model.store import require_new
from qspace_nd.progress import Progress, watcher
from qspace_nd.scores.names import BASELINE_SCORE, DEFAULT_SCORE
from qspace_nd.simulation.cohort import simulate_cohort
from qspace_nd.system.machine import Machine
from qspace_nd.system.writing import require_writable
from qspace_nd.workflows.evaluate import evaluate_maps
from qspace_nd.workflows.fit import fit_scans
from qspace_nd.workflows.map import map_scans
from qspace_nd.workflows.report import report_maps
from qspace_nd.workflows.report_index import INDEX
from qspace_nd.workflows.settings import MapSettings

CONTROLS, PATIENTS = 6, 2
VOXEL_SIZE = 3.0  # mm


@dataclass(frozen=True)
class Demo:
    """What the demo found, and where it lies."""

    cohort: Path
    model: Path
    maps: list[MapFiles]
    evaluation: Path
    report: Path
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
            f"Report:           {self.report} (open it in a browser)",
        ]


def run_demo(
    folder: Path,
    *,
    seed: int = 0,
    machine: Machine = Machine(),
    force: bool = False,
    progress: Progress | bool = False,
) -> Demo:
    """Simulate a cohort in `folder`, fit, map the patients, evaluate, report.

    Raises
    ------
    OutputError
        Something of an earlier demo is there and `force` is not set.
    """
    watching = watcher(progress)
    cohort_folder, model_folder = folder / "cohort", folder / "model"
    maps_folder, evaluation_folder = folder / "maps", folder / "eval"
    index = folder / "report" / INDEX
    new = [evaluation_folder / "eval.json", index]
    _require_new([cohort_folder, maps_folder], model_folder, new, force=force)
    cohort = simulate_cohort(
        cohort_folder,
        controls=CONTROLS,
        patients=PATIENTS,
        voxel_size=VOXEL_SIZE,
        seed=seed,
        force=force,
        progress=watching,
    )
    how: dict[str, Any] = {"machine": machine, "force": force, "progress": watching}
    fit_scans(cohort.controls, NoveltyModel(seed=seed), model_folder, template=False, **how)
    settings = MapSettings((BASELINE_SCORE, DEFAULT_SCORE), explain=True)
    maps = map_scans(cohort.patients, model_folder, maps_folder, settings, **how)
    paths = [path for files in maps for path in files.maps.values()]
    shown: dict[str, Any] = {"force": force, "progress": watching}
    evaluation = evaluate_maps(paths, cohort.labels, evaluation_folder, **shown)
    report_maps(paths, model_folder, index.parent, labels=cohort.labels, **shown)
    return Demo(cohort_folder, model_folder, maps, evaluation_folder, index, evaluation.results)


def _require_new(
    datasets: Iterable[Path], model: Path, files: Iterable[Path], *, force: bool
) -> None:
    """Check, before any work, that no earlier demo is there."""
    described = [dataset / DESCRIPTION for dataset in datasets]
    require_writable([*described, *files], force=force)
    require_new(model, force=force)
