"""Masks, arrays and pictures by nilearn, the novelty by a model of arrays.

What is between the scans and the model is in your hands here: nothing is resampled, and nothing
checked. The scans are simulated, at 5 mm.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from nilearn.image import index_img, smooth_img
from nilearn.maskers import NiftiMasker
from nilearn.plotting import plot_stat_map

from qspace_nd import NoveltyModel
from qspace_nd.simulation.cohort import simulate_cohort

with TemporaryDirectory() as name:
    cohort = simulate_cohort(Path(name), controls=4, voxel_size=5.0, layout="flat")
    (patient,) = cohort.patients

    def voxels(scan: Path, mask: Path) -> tuple[np.ndarray, NiftiMasker]:
        """Take a scan's voxels (n, C), over their mean, and what puts them back."""
        masker = NiftiMasker(mask, standardize=None).fit()
        values = masker.transform(scan).T
        return values / values.mean(), masker

    healthy = [
        voxels(*files)[0] for files in zip(cohort.controls, cohort.control_masks, strict=True)
    ]
    means = np.concatenate(healthy).mean(axis=0)
    subjects = np.repeat(np.arange(4), [len(values) for values in healthy])
    # Few epochs are soon done; without a number the model is trained as long as is good.
    model = NoveltyModel(epochs=20, seed=0).fit(np.concatenate(healthy) / means, groups=subjects)

    values, masker = voxels(patient, cohort.patient_masks[0])
    novelty = masker.inverse_transform(model.decision_function(values / means))
    display = plot_stat_map(
        smooth_img(novelty, 6),
        bg_img=index_img(patient, 0),
        display_mode="z",
        cut_coords=5,
        threshold=float(np.quantile(novelty.get_fdata()[novelty.get_fdata() > 0], 0.9)),
        title="Novelty (simulated), smoothed by 6 mm",
        colorbar=True,
        cmap="inferno",
        radiological=True,
    )
    display.add_contours(cohort.labels[0], levels=[0.5], colors="cyan")
    display.savefig("with_nilearn.png", dpi=80)
