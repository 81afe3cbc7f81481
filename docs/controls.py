"""Draw controls.png: what maps mean by how many controls, from the table of the benchmark.

In the root of the repository:

    .venv/bin/python docs/controls.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

HERE = Path(__file__).parent
EXPECTED, COLOURS = (1, 2, 5), ("tab:blue", "tab:green", "tab:orange")

results = (HERE.parent / "benchmarks/RESULTS.md").read_text(encoding="utf-8")
section = results.partition("<!-- begin calibration-final-controls -->")[2].partition("<!-- end")[0]
rows = [
    line.strip("| ").split(" | ") for line in section.splitlines() if line[:3].strip("| ").isdigit()
]
controls = [int(row[0]) for row in rows]
mean, worst = np.array([row[1:3] for row in rows], float).T
counted, found = (np.array([row[i].split(" / ") for row in rows], float).T for i in (5, 6))

figure, (shares, counts, lesions) = plt.subplots(1, 3, figsize=(10, 3.1), layout="constrained")
shares.plot(controls, worst, "o--", color="tab:grey", label="worst of 6 newcomers")
shares.plot(controls, mean, "o-", color="black", label="mean")
shares.axhline(1, color="lightgrey", zorder=0)
shares.set(title="Voxels with p < 0.01, over the nominal", ylim=(0, 2))
for expected, colour, number, share in zip(EXPECTED, COLOURS, counted, found, strict=True):
    counts.axhline(expected, color=colour, alpha=0.3)
    counts.plot(controls, number, "o-", color=colour, label=f"{expected} expected")
    lesions.plot(controls, share, "o-", color=colour, label=f"{expected} expected")
counts.set(title="Clusters counted in a newcomer", ylim=(0, 7))
lesions.set(title="Share of lesions found (6 patients)", ylim=(0, 1))
for axes in (shares, counts, lesions):
    axes.set(xlabel="controls (simulated)", xticks=controls)
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
figure.savefig(HERE / "controls.png", dpi=110, metadata={"Software": None})
