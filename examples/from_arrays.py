"""Voxels that you have in an array: learn from healthy ones, score others, say how rare they are.

The signal is simulated, of tensors: 30 directions at b = 1000 s/mm², of 4 healthy people.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import roc_auc_score

from qspace_nd import NoveltyModel

random = np.random.default_rng(0)
directions = random.normal(size=(30, 3))
directions /= np.linalg.norm(directions, axis=1, keepdims=True)


def signal(voxels: int, perpendicular: float) -> np.ndarray:
    """Simulate voxels (n, 30) of fibres that lie about the x-axis; diffusivities in µm²/ms."""
    fibres = np.array([1, 0, 0]) + random.normal(scale=0.3, size=(voxels, 3))
    fibres /= np.linalg.norm(fibres, axis=1, keepdims=True)
    across = perpendicular * random.lognormal(sigma=0.1, size=(voxels, 1))
    along = 1.7 * random.lognormal(sigma=0.1, size=(voxels, 1))
    clean = np.exp(-across - (along - across) * (fibres @ directions.T) ** 2)
    return clean + random.normal(scale=0.03, size=clean.shape)


healthy, subjects = signal(8000, 0.4), np.repeat(["anna", "ben", "cleo", "dan"], 2000)
same, damaged = signal(1000, 0.4), signal(1000, 0.6)  # diffusion across the fibres is freer

# Few epochs are soon done; without a number the model is trained as long as is good.
model = NoveltyModel(latents=8, epochs=100, seed=0).fit(healthy, groups=subjects).calibrate()
novelty = {"healthy": model.decision_function(same), "damaged": model.decision_function(damaged)}
auc = roc_auc_score([0] * 1000 + [1] * 1000, np.concatenate([*novelty.values()]))
rare = {
    name: np.mean(model.predict(X) == -1) for name, X in (("healthy", same), ("damaged", damaged))
}

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
for name, values in novelty.items():
    label = f"{name}: {100 * rare[name]:.0f} % have p < 0.01"
    axes.hist(values, bins=np.linspace(0, 4, 60), alpha=0.6, label=label)
axes.axvline(model.threshold_, color="black", linewidth=1)
axes.set(xlabel="latent-distance", ylabel="voxels", title=f"Simulated voxels: AUC {auc:.2f}")
axes.legend(frameon=False)
figure.savefig("from_arrays.png", dpi=100)
