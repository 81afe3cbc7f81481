"""Draw novelty.png, which README begins with: the demo's first patient.

In the root of the repository:

    bin/qspace-nd demo
    .venv/bin/python docs/novelty.py
"""

from __future__ import annotations

from pathlib import Path

from qspace_nd.plotting import plot_mosaic

DEMO, PATIENT = Path("qspace-nd-demo"), "sub-patient01"

novelty = f"maps/{PATIENT}/dwi/{PATIENT}_model-vae_param-latentDistance_dwimap.nii.gz"
(labels,) = DEMO.glob(f"cohort/derivatives/*/{PATIENT}/dwi/{PATIENT}_*lesion_mask.nii.gz")
figure = plot_mosaic(
    DEMO / novelty, labels=labels, title="A simulated patient's novelty, and the lesions"
)
figure.savefig(Path(__file__).with_suffix(".png"), dpi=150, metadata={"Software": None})
