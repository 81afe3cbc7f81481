"""Searches among many healthy voxels, each beside brute force and named peers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import faiss
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from references import Files
from scipy.spatial import cKDTree
from sklearn.neighbors import NearestNeighbors
from timing import in_turn

from qspace_nd.gaussian import Gaussian
from qspace_nd.network.recipes import PRESETS
from qspace_nd.scores.density import density_trees, log_density_sum
from qspace_nd.scores.nearest import nearest_gaussians, overlap_trees
from qspace_nd.searching.approximate import recall
from qspace_nd.searching.nearest import NearestNeighbours

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

FLAT_QUERIES = 1024
NOISE_QUERIES = 4096
CHECKED = 64  # queries whose distances are checked against brute force in float64
QUERIES = 100_000


def nearest(files: Files, quick: bool) -> str:
    """Latent distance against FAISS Flat and the peers."""
    sizes = [(500_000, 8), (1_000_000, 8), (4_000_000, 8), (1_000_000, 16), (1_000_000, 24)]
    noise = 500_000
    if quick:
        sizes, noise = [(10_000, 8), (files.size, 8), (10_000, 16)], 20_000
    rows = [_nearest_row(files, number, latents) for number, latents in sizes]
    rows += [_noise_row(noise, dimensions) for dimensions in (16, 24)]
    peers = _library_peers(files, sizes[0][0])
    return f"""## Latent distance

Posterior means of a default model, all latents alive; µs a query, of {QUERIES:,} queries of a
patient (Flat: {FLAT_QUERIES:,}). Noise is standard normal in all dimensions, where no tree helps;
{NOISE_QUERIES:,} queries of the same, for Flat too. Flat is FAISS's scan on its fast path
(`distance_compute_blas_threshold = 20`). Errors are relative, against brute force in float64 on
{CHECKED} queries. What is built once for all queries is in seconds beside it, the choice of the
engine by timing with it; what is compiled once for a machine is not.

| reference | d | engine | building, s | µs a query | Flat | times faster | error | Flat's |
| --: | --: | --- | --: | --: | --: | --: | --: | --: |
{chr(10).join(rows)}

{peers}"""


def channels(files: Files, quick: bool) -> str:
    """46 channels against FAISS Flat."""
    number = 20_000 if quick else 1_000_000
    row = _row(files.signals(number), files.patient(QUERIES // 10))
    return f"""## All 46 channels

`input-distance`, as above; {QUERIES // 10:,} queries.

| reference | d | engine | building, s | µs a query | Flat | times faster | error | Flat's |
| --: | --: | --- | --: | --: | --: | --: | --: | --: |
{row}"""


def bhattacharyya(files: Files, quick: bool) -> str:
    """The nearest Gaussian against brute force in PyTorch."""
    number = 20_000 if quick else 1_000_000
    healthy, queries = _gaussians(files, number, 32_768)
    few = queries[:: len(queries) // CHECKED][:CHECKED]
    ours, brute = in_turn(
        [
            lambda: nearest_gaussians(queries, overlap_trees(_chunks(healthy))),
            lambda: brute_bhattacharyya(few, healthy),
        ],
        rounds=2,
    )
    exact = brute_bhattacharyya(_double(few), _double(healthy))
    found = ours.result[:: len(queries) // CHECKED][:CHECKED]
    error = np.abs(found - exact).max() / exact.max()
    return f"""## Bhattacharyya distance

{number:,} healthy Gaussians of 8 dimensions, {len(queries):,} queries; brute force in PyTorch, in
float32 and in blocks that fit the cache, on {CHECKED} of them. Against brute force in float64 the
largest error is {error:.0e} of the largest distance.

{_against_brute(ours.seconds / len(queries), brute.seconds / len(few))}"""


def density(files: Files, quick: bool) -> str:
    """The mean density against brute force in PyTorch."""
    number = 20_000 if quick else 1_000_000
    healthy, queries = _gaussians(files, number, 32_768)
    few = queries[:: len(queries) // CHECKED][:CHECKED]
    ours, brute = in_turn(
        [
            lambda: (
                log_density_sum(queries.mean, density_trees(_chunks(healthy))) - math.log(number)
            ),
            lambda: brute_density(few.mean, healthy),
        ],
        rounds=2,
    )
    exact = brute_density(few.mean.double(), _double(healthy))
    error = ours.result[:: len(queries) // CHECKED][:CHECKED] - exact
    return f"""## Density

{number:,} healthy Gaussians of 8 dimensions, {len(queries):,} queries; brute force in PyTorch, in
float32 and in blocks that fit the cache, on {CHECKED} of them. Against brute force in float64 the
error of the logarithm has a standard deviation of {error.std():.1g} and is at the most
{np.abs(error).max():.1g}.

{_against_brute(ours.seconds / len(queries), brute.seconds / len(few))}"""


def growth(files: Files, quick: bool, plot: Path) -> str:
    """The cost of the default score against the size of the reference, with a plot."""
    sizes = [1_000_000 * 2**i for i in range(5)]
    if quick:
        sizes = [files.size // 4, files.size // 2, files.size]
    queries = files.model(8).encode(files.patient(5 * QUERIES)).mean
    number = PRESETS["default"].neighbours
    costs = [_growth_costs(files.latents(size).mean, queries, number) for size in sizes]
    ours, nearest, flat = zip(*costs, strict=True)
    named = {
        "FAISS Flat, nearest": flat,
        f"qspace-nd, {number} nearest": ours,
        "qspace-nd, nearest": nearest,
    }
    _plot(plot, sizes, named)
    rows = [
        f"| {size:,} | {default:.1f} | {one:.1f} | {other:,.0f} | {other / one:.0f} |"
        for size, (default, one, other) in zip(sizes, costs, strict=True)
    ]
    return f"""## Cost against the size of the reference

`latent-distance` with 8 latents, µs a query of {len(queries):,}: of the {number} nearest, as by
default, and of the nearest alone, which Flat looks for too, as above. From {sizes[0]:,} to
{sizes[-1]:,} voxels the time of a query grows {ours[-1] / ours[0]:.2f} times, for the nearest
{nearest[-1] / nearest[0]:.2f} times.

| reference | {number} nearest | nearest | Flat | times faster, nearest |
| --: | --: | --: | --: | --: |
{chr(10).join(rows)}

![Cost against size]({plot.name})"""


def _growth_costs(points: Floats, queries: Floats, number: int) -> tuple[float, float, float]:
    """µs a query of so many nearest, of the nearest, and of the nearest by FAISS Flat."""
    search = NearestNeighbours(points)
    search.distances(queries, number)
    few = queries[:256]
    default, one, scan = in_turn(
        [
            lambda: search.distances(queries, number),
            lambda: search.distances(queries),
            lambda: _flat(points, few),
        ]
    )
    return tuple(
        1e6 * timed.seconds / len(some)
        for timed, some in ((default, queries), (one, queries), (scan, few))
    )


def _nearest_row(files: Files, number: int, latents: int) -> str:
    queries = files.model(latents).encode(files.patient(QUERIES)).mean
    return _row(files.latents(number, latents).mean, queries)


def _noise_row(number: int, dimensions: int) -> str:
    random = np.random.default_rng(0)
    points = random.standard_normal((number, dimensions), np.float32)
    queries = random.standard_normal((NOISE_QUERIES, dimensions), np.float32)
    return _row(points, queries, NOISE_QUERIES, " of noise")


def _row(points: Floats, queries: Floats, flat_queries: int = FLAT_QUERIES, kind: str = "") -> str:
    NearestNeighbours(points[:100]).distances(queries[:1])  # compiles
    search = NearestNeighbours(points)
    (building,) = in_turn([lambda: search.distances(queries)], rounds=1)
    few = queries[:: max(1, len(queries) // flat_queries)][:flat_queries]
    ours, flat = in_turn([lambda: search.distances(queries), lambda: _flat(points, few)])
    per_query, per_flat = ours.seconds / len(queries), flat.seconds / len(few)
    checked = few[:CHECKED]
    exact = brute_distances(points, checked)
    errors = [
        np.abs(found - exact).max() / exact.max()
        for found in (search.distances(checked)[:, 0], _flat(points, checked))
    ]
    return (
        f"| {len(points):,}{kind} | {points.shape[1]} | {search.engine} | "
        f"{building.seconds - ours.seconds:.1f} | {1e6 * per_query:.1f} | {1e6 * per_flat:.0f} | "
        f"**{per_flat / per_query:.1f}** | {errors[0]:.0e} | {errors[1]:.0e} |"
    )


# --- Peers

Search = Callable[[Floats], Doubles]
"""Distances from queries (n, d) to the k nearest points, or to the last of them: (n, k or 1)."""


@dataclass(frozen=True)
class Peer:
    """A library that finds neighbours.

    Attributes
    ----------
    name : str
    package : str
        That it needs.
    build : callable
        Makes the search of the k nearest of points (N, d).
    queries : int
        That it is timed on.
    """

    name: str
    package: str
    build: Callable[[Floats, int], Search]
    queries: int = QUERIES


def _scipy(points: Floats, k: int) -> Search:
    tree = cKDTree(points)
    threads = torch.get_num_threads()
    return lambda queries: tree.query(queries, [*range(1, k + 1)], workers=threads)[0]


def _sklearn(points: Floats, k: int) -> Search:
    tree = NearestNeighbors(n_neighbors=k, n_jobs=torch.get_num_threads()).fit(points)
    return lambda queries: tree.kneighbors(queries)[0]


def _pyod(points: Floats, k: int) -> Search:
    from pyod.models.knn import KNN

    jobs = torch.get_num_threads()
    detector = KNN(n_neighbors=k, method="largest", n_jobs=jobs).fit(points)
    return lambda queries: detector.decision_function(queries)[:, None]


def _pynndescent(points: Floats, k: int) -> Search:
    from pynndescent import NNDescent

    jobs = torch.get_num_threads()
    index = NNDescent(points, random_state=0, n_jobs=jobs, parallel_batch_queries=jobs > 1)
    index.prepare()
    return lambda queries: index.query(queries, k)[1]


PEERS = [
    Peer("SciPy, cKDTree", "scipy", _scipy),
    Peer("scikit-learn, NearestNeighbors", "sklearn", _sklearn, 2000),
    Peer("PyOD, KNN", "pyod", _pyod, 2000),
    Peer("PyNNDescent", "pynndescent", _pynndescent),
]


def _library_peers(files: Files, number: int) -> str:
    points = files.latents(number).mean
    queries = files.model(8).encode(files.patient(QUERIES)).mean
    # A k-d tree is slow where what lies together is far apart in memory.
    points, queries = (some[cKDTree(some).indices] for some in (points, queries))
    ours = NearestNeighbours(points)
    ours.distances(queries)
    rows = [_peer_row(peer, points, queries, ours, k) for k in (1, 10) for peer in PEERS]
    return f"""At {number:,} voxels and d=8. Points and queries are in the order of SciPy's tree,
which suits it. Recall is the share of the true nearest that are found; of PyOD, which gives the
distance to the last of them alone, the share of these distances that are right.

| peer | neighbours | building, s | µs a query | times slower than ours | recall |
| --- | --: | --: | --: | --: | --: |
{chr(10).join(rows)}"""


def _peer_row(peer: Peer, points: Floats, queries: Floats, ours: NearestNeighbours, k: int) -> str:
    if find_spec(peer.package) is None:
        return f"| {peer.name} | {k} | {peer.package} is not installed | | | |"
    peer.build(points[:2000], k)(queries[:100])  # compiles
    (building,) = in_turn([lambda: peer.build(points, k)], rounds=1)
    few = queries[:: max(1, len(queries) // peer.queries)][: peer.queries]
    mine, theirs = in_turn(
        [lambda: ours.distances(queries, k), lambda: building.result(few)], rounds=2
    )
    base, cost = mine.seconds / len(queries), theirs.seconds / len(few)
    exact = ours.distances(few, k)
    share = recall(np.asarray(theirs.result, np.float64), exact[:, -theirs.result.shape[1] :])
    return (
        f"| {peer.name} | {k} | {building.seconds:.1f} | {1e6 * cost:.1f} | {cost / base:.1f} | "
        f"{share:.4f} |"
    )


def _flat(points: Floats, queries: Floats) -> Floats:
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_threshold = 20
    squared, _ = faiss.knn(queries, points, 1)
    return np.sqrt(np.maximum(squared[:, 0], 0.0))


def brute_distances(points: Floats, queries: Floats) -> Doubles:
    """Distance to the nearest point in float64, one query at a time: (n,)."""
    exact = np.full(len(queries), np.inf)
    for start in range(0, len(points), 65_536):
        block = points[start : start + 65_536].astype(np.float64)
        for row, query in enumerate(queries):
            nearest = np.sqrt(((block - query) ** 2).sum(axis=1).min())
            exact[row] = min(exact[row], nearest)
    return exact


def brute_bhattacharyya(
    queries: Gaussian[torch.Tensor], healthy: Gaussian[torch.Tensor]
) -> Doubles:
    """The least distance over all pairs: (n,)."""
    least = torch.full((len(queries),), torch.inf, dtype=queries.mean.dtype)
    for block in _chunks(healthy, 4096):
        for row in range(len(queries)):
            mean, std = queries.mean[row], queries.std[row]
            variances = std**2 + block.std**2
            distance = 0.25 * (mean - block.mean) ** 2 / variances
            distance += 0.5 * torch.log(variances / (2.0 * std * block.std))
            least[row] = torch.minimum(least[row], distance.sum(1).min())
    return least.numpy().astype(np.float64)


def brute_density(points: torch.Tensor, healthy: Gaussian[torch.Tensor]) -> Doubles:
    """Logarithm of the mean of all densities: (n,)."""
    total = torch.full((len(points),), -torch.inf, dtype=points.dtype)
    for block in _chunks(healthy, 4096):
        for row, point in enumerate(points):
            terms = torch.logsumexp(block.log_prob(point), 0)
            total[row] = torch.logaddexp(total[row], terms)
    return total.numpy().astype(np.float64) - np.log(len(healthy))


def _gaussians(
    files: Files, number: int, queries: int
) -> tuple[Gaussian[torch.Tensor], Gaussian[torch.Tensor]]:
    return _tensors(files.latents(number)), _tensors(files.model(8).encode(files.patient(queries)))


def _tensors(gaussian: Gaussian[np.ndarray]) -> Gaussian[torch.Tensor]:
    return Gaussian(torch.from_numpy(gaussian.mean), torch.from_numpy(gaussian.std))


def _double(gaussian: Gaussian[torch.Tensor]) -> Gaussian[torch.Tensor]:
    return Gaussian(gaussian.mean.double(), gaussian.std.double())


def _chunks(
    healthy: Gaussian[torch.Tensor], size: int = 65_536
) -> Iterator[Gaussian[torch.Tensor]]:
    for start in range(0, len(healthy), size):
        yield healthy[start : start + size]


def _against_brute(ours: float, brute: float) -> str:
    return f"""| µs a query | brute force | times faster |
| --: | --: | --: |
| {1e6 * ours:.1f} | {1e6 * brute:,.0f} | **{brute / ours:.0f}** |"""


def _plot(path: Path, sizes: list[int], costs: dict[str, Sequence[float]]) -> None:
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, cost in costs.items():
        axes.loglog(sizes, cost, "o-", label=name)
    axes.set(xlabel="healthy voxels", ylabel="µs a query", title="latent-distance, 8 latents")
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)
