"""How fast everything is, in ratios to named peers measured in the same run.

    python benchmarks/speed.py                    everything but the paper's scale
    python benchmarks/speed.py nearest growth     some of it
    python benchmarks/speed.py scale              the paper's scale, from files to a map

Each item is a section of RESULTS.md. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import paper_scale
import searches
import throughput
import torch
from references import QUICK, Design, Files
from results import write_section
from timing import machine

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    items = ["nearest", "channels", "bhattacharyya", "density", "generated", "growth", "reading"]
    items += ["training", "scale"]
    parser.add_argument("items", nargs="*", metavar="ITEM", help=f"of: {', '.join(items)}")
    parser.add_argument("--quick", action="store_true", help="small, to see that it runs")
    parser.add_argument("--cache", type=Path, default=HERE / ".cache" / "speed")
    parser.add_argument("--threads", type=int, help="all cores by default")
    arguments = parser.parse_args()
    unknown = set(arguments.items) - set(items)
    if unknown:
        parser.error(f"there is no item {', '.join(sorted(unknown))}, only {', '.join(items)}")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    cache = arguments.cache.with_name("speed-quick") if arguments.quick else arguments.cache
    output = cache if arguments.quick else HERE
    files = Files(QUICK if arguments.quick else Design(), cache)
    runs: dict[str, Callable[[Files, bool], str]] = {
        "nearest": searches.nearest,
        "channels": searches.channels,
        "bhattacharyya": searches.bhattacharyya,
        "density": searches.density,
        "generated": throughput.generated,
        "growth": partial(searches.growth, plot=output / "growth.png"),
        "reading": throughput.reading,
        "training": throughput.training,
        "scale": paper_scale.scale,
    }
    threads = f"--threads {arguments.threads} " if arguments.threads else ""
    for item in arguments.items or items[:-1]:
        start = time.perf_counter()
        text = runs[item](files, arguments.quick)
        written = f"{text}\n\n`python benchmarks/speed.py {threads}{item}`, {machine()}."
        write_section(output / "RESULTS.md", f"speed-{item}", written)
        print(f"{written}\n\n({time.perf_counter() - start:.0f} s)\n", flush=True)


if __name__ == "__main__":
    main()
