"""The paper's scale: 20 healthy scans and a patient of 1.7 million voxels, from files to a map."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from references import Files
from timing import run_command

PROGRAM = Path(sys.executable).with_name("qspace-nd")
MEMORY = 8  # GB, that fit and map are told to keep to


def scale(files: Files, quick: bool) -> str:
    """`fit` and `map` as a user types them, their time, memory and log."""
    controls, voxel_size = (3, 6.0) if quick else (20, 1.03)
    folder = files.folder / "scale"
    folder.mkdir(parents=True, exist_ok=True)
    simulate = f"simulate . --layout flat --controls {controls} --voxel-size {voxel_size:g}"
    limits = f"--nthreads {torch.get_num_threads()} --memory {MEMORY}"
    if not (folder / "patient.nii.gz").exists():
        run_command([PROGRAM, *simulate.split(), "--force"], folder)
    lines = {
        "fit": f"fit healthy --force {limits}" + (" --epochs 1" if quick else ""),
        "map": f"map patient.nii.gz -o novelty.nii.gz --force -v {limits}",
    }
    done = {name: run_command([PROGRAM, *line.split()], folder) for name, line in lines.items()}
    rows = [
        f"| `{name}` | {one.seconds:.0f} | {one.peak / 2**30:.2f} |" for name, one in done.items()
    ]
    logs = [f"$ qspace-nd {lines[name]}\n{one.log.rstrip()}" for name, one in done.items()]
    return f"""## The paper's scale

{controls} controls and a patient, made by `qspace-nd {simulate}`: NIfTI files of 46 channels, read,
fitted and mapped with the default settings and score, in {MEMORY} GB of memory by `--memory`.

| command | seconds | peak memory, GiB |
| --- | --: | --: |
{chr(10).join(rows)}

```console
{(chr(10) * 2).join(logs)}
```"""
