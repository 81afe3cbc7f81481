"""Draw the pictures of first-map.md and how-it-works.md, from a simulated study.

In the root of the repository (ten minutes on two free cores; what is there already is kept):

    .venv/bin/python docs/first_map.py

The study goes to `build/first-map`, the pictures go beside this file. What the commands say is
printed; the page quotes it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import nibabel as nib
import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_edt
from sklearn.metrics import roc_auc_score, roc_curve

from qspace_nd.plotting import plot_mosaic

HERE = Path(__file__).parent
STUDY = HERE.parent / "build/first-map"
PROGRAM = Path(sys.executable).with_name("qspace-nd")


def run(*words: str) -> None:
    """Call `qspace-nd` in the study, unless what it is to write is there."""
    print("$ qspace-nd", *words, flush=True)
    subprocess.run([PROGRAM, *words], cwd=STUDY, check=True)


def map_once(scan: str, *words: str) -> None:
    """Map a scan to `SCAN-maps/novelty.nii.gz`, and hold it against the lesions."""
    maps = f"{scan}-maps"
    if not (STUDY / maps).exists():
        (STUDY / maps).mkdir()
        run("map", f"{scan}.nii.gz", "-o", f"{maps}/novelty.nii.gz", *words)
        for novelty in sorted(STUDY.glob(f"{maps}/novelty*.nii.gz")):
            if novelty.with_name(novelty.name.replace(".nii.gz", ".json")).exists():
                print_figures(novelty)


def print_figures(novelty: Path) -> None:
    """Print what the JSON file and the table of clusters say, and the AUC."""
    facts = json.loads(novelty.with_name(novelty.name.replace(".nii.gz", ".json")).read_text())
    if "Score" not in facts and "LevelAboveHealthy" not in facts:
        return
    for name in ("LevelAboveHealthy", "HealthyLevels", "ShareAboveHealthy1Percent", "UnlikeModel"):
        print(f"  {name}: {facts.get(name)}")
    clusters = novelty.with_name(novelty.name.replace(".nii.gz", "_clusters.tsv"))
    if clusters.exists():
        found = nib.load(clusters.with_name(clusters.name.replace(".tsv", ".nii.gz"))).get_fdata()
        lesions = nib.load(STUDY / "lesions.nii.gz").get_fdata() > 0
        for line in clusters.read_text().splitlines()[1:9]:
            cells = line.split("\t")
            inside = lesions[found == int(cells[0])].mean()
            print("  ", *cells, f"lesion: {100 * inside:.0f} %")


def write_scan(name: str, signal: np.ndarray, mask: np.ndarray) -> None:
    """Write a scan like the patient's, with its gradients and a mask."""
    patient = nib.load(STUDY / "patient.nii.gz")
    volumes = signal.astype(np.float32)
    nib.save(nib.Nifti1Image(volumes, patient.affine, patient.header), STUDY / f"{name}.nii.gz")
    saved = nib.Nifti1Image(mask.astype(np.uint8), patient.affine)
    nib.save(saved, STUDY / f"{name}_mask.nii.gz")
    for ending in ("bval", "bvec"):
        shutil.copy(STUDY / f"patient.{ending}", STUDY / f"{name}.{ending}")


def spoil() -> None:
    """Write the patient's scan with a mask too wide, a corrupt volume, as of another scanner."""
    signal = nib.load(STUDY / "patient.nii.gz").get_fdata(dtype=np.float32)
    mask = nib.load(STUDY / "patient_mask.nii.gz").get_fdata() > 0
    b0 = np.loadtxt(STUDY / "patient.bval") == 0

    write_scan("wide", signal, distance_transform_edt(~mask, sampling=3.0) <= 6)

    corrupt = signal.copy()
    corrupt[:, :, 24:34, 20] *= 0.2  # ten slices of one volume lost most of their signal
    write_scan("corrupt", corrupt, mask)

    # Its gradients are 7 % weaker than its header says, and it has noise of its own.
    mean_b0 = signal[..., b0].mean(axis=-1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        other = np.where(mean_b0 > 0, mean_b0 * (signal / mean_b0) ** 0.93, 0)
    other[..., b0] = signal[..., b0]
    noise = np.random.default_rng(0).normal(scale=15, size=(2, *signal.shape))
    other = np.where(signal > 0, np.hypot(other + noise[0], noise[1]), 0)
    write_scan("other", other, mask)


def draw_maps() -> None:
    """Draw the nine slices of each map."""
    titles = {
        "patient": "As it should be",
        "wide": "The mask is 6 mm too wide",
        "corrupt": "Ten slices of one volume are corrupt",
        "other": "Another scanner",
    }
    for scan, title in titles.items():
        novelty, labels = STUDY / f"{scan}-maps/novelty.nii.gz", STUDY / "lesions.nii.gz"
        figure = plot_mosaic(novelty, labels=labels, title=f"{title} (simulated)")
        figure.savefig(HERE / f"first-map-{scan}.png", dpi=130, metadata={"Software": None})
    residual = nib.load(STUDY / "corrupt-maps/novelty_residual.nii.gz").get_fdata()
    healthy = nib.load(STUDY / "patient-maps/novelty_residual.nii.gz").get_fdata()
    figure, axes = plt.subplots(1, 2, figsize=(6, 3.4), layout="constrained")
    for one, image, title in zip(axes, (healthy, residual), ("patient", "corrupt"), strict=True):
        middle = np.rot90(image[image.shape[0] // 2])
        drawn = one.imshow(middle, vmin=0, vmax=0.1, cmap="inferno")
        one.set(title=f"{title} (simulated)", xticks=[], yticks=[])
    figure.colorbar(drawn, ax=axes, label="residual of the fit, share of b=0", shrink=0.8)
    figure.savefig(HERE / "first-map-residual.png", dpi=90, metadata={"Software": None})


def draw_report() -> None:
    """Take a picture of the top of the patient's page, where Chromium is at hand."""
    browser = shutil.which("chromium")
    if browser is None:
        print("Chromium is not installed: first-map-report.png stays as it is.")
        return
    if not (STUDY / "report").exists():
        run("report", "patient-maps/novelty.nii.gz", "-o", "report")
    picture, page = HERE / "first-map-report.png", STUDY / "report/patient.html"
    flags = "--headless --no-sandbox --hide-scrollbars --window-size=1200,1000"
    shot = [f"--screenshot={picture}", f"{page.resolve().as_uri()}#thr=0.01"]
    wait = "--virtual-time-budget=8000"
    subprocess.run([browser, *flags.split(), wait, *shot], check=True, capture_output=True)
    with Image.open(picture) as image:
        image.convert("RGB").quantize(256).save(picture, optimize=True)


def draw_how() -> None:
    """Draw one slice by both distances and their rarity, and the ROC curves."""
    maps = STUDY / "both-maps"
    b0 = nib.load(STUDY / "patient.nii.gz").dataobj[..., 0]
    lesions = nib.load(STUDY / "lesions.nii.gz").get_fdata() > 0
    mask = nib.load(STUDY / "patient_mask.nii.gz").get_fdata() > 0
    height = int(lesions.sum((0, 1)).argmax())
    images = {
        "b=0, and lesions": b0,
        "distance of signals": nib.load(maps / "novelty_input-distance.nii.gz").get_fdata(),
        "distance of latents": nib.load(maps / "novelty_latent-distance.nii.gz").get_fdata(),
        "-log10 p of it": nib.load(maps / "novelty_latent-distance_neglogp.nii.gz").get_fdata(),
    }
    figure, panels = plt.subplots(1, 5, figsize=(12, 2.7), layout="constrained")
    for axes, (title, image) in zip(panels, images.items(), strict=False):
        inside = np.asarray(image)[mask]
        top = 4.0 if title.startswith("-log10") else np.quantile(inside, 0.995)
        cut = np.where(mask, image, 0)[..., height].T[::-1]  # LAS: the right of the head is left
        axes.imshow(cut, vmin=0, vmax=top, cmap="gray" if "b=0" in title else "inferno")
        outline = lesions[..., height].T[::-1]
        axes.contour(outline, levels=[0.5], colors="cyan", linewidths=0.7)
        axes.set(title=title, xticks=[], yticks=[])
    truth = lesions[mask]
    for title, name in (("distance of signals", "input"), ("distance of latents", "latent")):
        values = images[title][mask]
        false, true, _ = roc_curve(truth, values)
        label = f"{name}: AUC {roc_auc_score(truth, values):.2f}"
        panels[-1].plot(false, true, label=label)
    panels[-1].set(title="lesions found", xlabel="false positives", ylabel="true positives")
    panels[-1].legend(frameon=False, loc="lower right")
    figure.suptitle("A simulated patient")
    figure.savefig(HERE / "how-it-works.png", dpi=100, metadata={"Software": None})


def main() -> None:
    """Make the study, and draw."""
    STUDY.mkdir(parents=True, exist_ok=True)
    if not (STUDY / "patient.nii.gz").exists():
        run("simulate", ".", "--layout", "flat", "--controls", "8")
    if not (STUDY / "qspace-nd-model").exists():
        run("fit", "healthy")
    if not (STUDY / "other.nii.gz").exists():
        spoil()
    for scan in ("patient", "wide", "corrupt", "other"):
        map_once(scan)
    if not (STUDY / "both-maps").exists():
        (STUDY / "both-maps").mkdir()
        both = ("--score", "latent-distance", "--score", "input-distance")
        run("map", "patient.nii.gz", "-o", "both-maps/novelty.nii.gz", *both)
    draw_maps()
    draw_report()
    draw_how()


if __name__ == "__main__":
    main()
