"""From scans to a map and a picture of it, as the command line makes them.

The scans are simulated: 4 healthy people and a patient, at 5 mm so that it is soon done.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import qspace_nd
from qspace_nd import MapSettings, NoveltyModel
from qspace_nd.simulation.cohort import simulate_cohort

with TemporaryDirectory() as name:
    study = Path(name)
    cohort = simulate_cohort(study, controls=4, voxel_size=5.0, layout="flat")

    # Few epochs are soon done; without a number the model is trained as long as is good.
    model = NoveltyModel(epochs=40, seed=0)
    qspace_nd.fit_scans(cohort.controls, model, study / "model", template=False)
    settings = MapSettings(["latent-distance", "input-distance"])
    (maps,) = qspace_nd.map_scans(cohort.patients, study / "model", study / "maps", settings)
    evaluation = qspace_nd.evaluate_maps([study / "maps"], cohort.labels, study / "evaluation")

    auc = {result.score: result.auc for result in evaluation.results}
    figure = qspace_nd.plot_mosaic(
        maps.maps["latent-distance"],
        labels=cohort.labels[0],
        title="Simulated patient: AUC " + ", ".join(f"{k} {v:.2f}" for k, v in auc.items()),
    )
    figure.savefig("from_scans.png", dpi=80)
