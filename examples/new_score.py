"""A new score: a small class and a line of the catalogue, and every command knows it.

It is the largest error of any channel, in what the decoder says is its standard deviation there.
In the code of the package the class would lie in `qspace_nd/scores/`. The signal is simulated.
"""

from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_curve

from qspace_nd import NoveltyModel
from qspace_nd.scores.base import Cost, Score
from qspace_nd.scores.catalogue import CATALOGUE, Entry
from qspace_nd.scores.measures import double
from qspace_nd.scores.reference import Reference
from qspace_nd.scores.views import Views


@dataclass(frozen=True)
class LargestError(Score):
    """The error of the channel that is reconstructed worst."""

    cost = Cost.CHEAP

    def __call__(self, voxels: Views, healthy: Reference) -> np.ndarray:
        """Novelty of n voxels: (n,)."""
        error = double(voxels.x) - double(voxels.p.mean)
        return np.abs(error / double(voxels.p.std)).max(axis=1)


CATALOGUE["largest-error"] = Entry("ours", "max_c |x - pm(qm(x))| / ps(qm(x))", LargestError())

random = np.random.default_rng(0)
mixing = random.normal(size=(3, 30))


def signal(voxels: int) -> np.ndarray:
    """Simulate healthy voxels (n, 30): of 3 tissues, with noise."""
    shares = random.dirichlet([1, 1, 1], size=voxels)
    return np.exp(0.5 * shares @ mixing) + random.normal(scale=0.02, size=(voxels, 30))


corrupt = signal(1000)
corrupt[np.arange(1000), random.integers(30, size=1000)] *= 0.9  # one channel of each lost a tenth
# Few epochs are soon done; without a number the model is trained as long as is good.
model = NoveltyModel(epochs=100, seed=0).fit(signal(8000))
test, truth = np.concatenate([signal(1000), corrupt]), np.repeat([0, 1], 1000)

figure, axes = plt.subplots(figsize=(4.2, 4), layout="constrained")
for name in ("largest-error", "recon-likelihood", "latent-distance"):
    false, true, _ = roc_curve(truth, model.novelty(test, name))
    axes.plot(false, true, label=f"{name}: AUC {np.trapezoid(true, false):.2f}")
axes.set(xlabel="false positives", ylabel="true positives", title="One corrupt channel (simulated)")
axes.legend(frameon=False, loc="lower right")
figure.savefig("new_score.png", dpi=90)
