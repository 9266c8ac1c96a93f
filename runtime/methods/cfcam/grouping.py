"""Channels into groups: which fire at the same places.

Every function here looks at activations alone, so its answer serves all classes of an image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base import Grouping
from ..numerics.matrix_products import gram, product

__all__ = [
    "cluster_cosine",
    "cosine_distances",
    "dbscan",
    "live_channels",
    "neighbour_distance",
    "shuffle_clusters",
    "split_by_sign",
]

# Float32 leaves distances of up to some 1e-7 between identical channels; below this floor
# eps would let rounding decide what belongs together.
EPS_FLOOR = 1e-6


def live_channels(features: NDArray[np.float32], threshold: float) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Indices of the rows of `features` (C, D) that are not dead, and those rows at unit length.

    A row is live when its L2 norm is above `threshold` times the largest norm.
    """
    norms = _norms(features)
    live = np.flatnonzero(norms > threshold * norms.max())
    return live, features[live] / norms[live, None]


def _norms(features: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(np.einsum("kp,kp->k", features, features))


def cosine_distances(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, n) matrix of 1 - cosine between unit rows (n, D): symmetric, in [0, 2], zero diagonal."""
    distances = gram(unit)
    np.subtract(1, distances, out=distances)
    np.clip(distances, 0, 2, out=distances)
    np.fill_diagonal(distances, 0)
    return distances


def neighbour_distance(distances: NDArray[np.float32], neighbour: int) -> NDArray[np.float32]:
    """Distance of each row's item to its `neighbour`-th nearest other item, (n,).

    Takes the last neighbour there is where there are fewer. `distances` is (n, n) with a
    zero diagonal, and is restored before returning.
    """
    count = len(distances)
    rank = min(neighbour, count - 1)
    # A few passes of argmin are ten times faster than a partial sort of every row.
    if rank > 16:
        return np.partition(distances, rank, axis=1)[:, rank]
    rows = np.arange(count)
    taken = []
    for _ in range(rank):
        nearest = distances.argmin(axis=1)
        taken.append((nearest, distances[rows, nearest]))
        distances[rows, nearest] = np.inf
    found = distances.min(axis=1)
    for nearest, values in taken:
        distances[rows, nearest] = values
    return found


def dbscan(distances: NDArray[np.floating[Any]], *, eps: float, min_samples: int) -> NDArray[np.int64]:
    """DBSCAN over a symmetric distance matrix (n, n) with a zero diagonal: labels (n,), -1 for noise.

    `min_samples` counts the item itself, and border items belong to a cluster. The labels are exactly those of
    scikit-learn's DBSCAN with ``metric="precomputed"``: clusters are the connected components of the core items,
    numbered by their first one, and a border item goes to the first cluster that reaches it. Scikit-learn's own
    makes a list of neighbours per item, which costs more than the rest of a map, and its import more than a
    hundred maps.
    """
    count = len(distances)
    # Who is near to whom. A flat index is ten times as fast as one of two axes.
    rows, columns = np.divmod(np.flatnonzero(distances <= eps), count)
    is_core = np.bincount(rows, minlength=count) >= min_samples
    core = np.flatnonzero(is_core)
    labels = np.full(count, -1, np.int64)
    if not len(core):
        return labels
    from_core = is_core[rows]
    rows, columns = rows[from_core], columns[from_core]
    inner = is_core[columns]
    place = np.cumsum(is_core) - 1
    first = _components(place[rows[inner]], place[columns[inner]])
    labels[core] = (np.cumsum(first == np.arange(len(first))) - 1)[first]
    rows, border = rows[~inner], columns[~inner]
    least = np.full(count, count)
    np.minimum.at(least, border, labels[rows])
    labels[border] = least[border]
    return labels


def _components(rows: NDArray[np.intp], columns: NDArray[np.intp]) -> NDArray[np.intp]:
    """The first item of every item's connected component, (n,).

    rows, columns: the pairs of neighbours, both ways and every item its own, in the order of `rows`.
    Every round each root is hooked onto the least root that its members touch, and pointers are then followed to
    the new roots. Two rounds at least halve the number of unfinished components, so that there are at most
    2 * ceil(log2(n)) + 1 of them, on chains too.
    """
    starts = np.flatnonzero(np.diff(rows, prepend=-1))
    root = np.arange(len(starts))
    while ((lower := _hooked(root, columns, starts)) != root).any():
        root = lower
    return root


def _hooked(root: NDArray[np.intp], columns: NDArray[np.intp], starts: NDArray[np.intp]) -> NDArray[np.intp]:
    """One round: every item's root, once each root hangs on the least root that its members touch."""
    parent = root.copy()
    np.minimum.at(parent, root, np.minimum.reduceat(root[columns], starts))
    # Parents are never larger, so that following them ends.
    while ((further := parent[parent]) != parent).any():
        parent = further
    return parent[root]


def cluster_cosine(
    features: NDArray[np.float32], *, live_threshold: float, neighbour: int, min_samples: int, most: int | None = None
) -> Grouping:
    """Cluster the rows of `features` float32 (C, D) by direction.

    eps is the median over clustered rows of the distance to the `neighbour`-th nearest other
    row. Noise joins the cluster whose centroid is nearest by cosine, since leaving it out
    makes the map jump when a channel crosses eps. Without any cluster all live rows stay
    noise. most: of more live rows than that, those of the largest norm are clustered, and the others join like
    noise: the cost is quadratic, and weak channels hardly move a map.
    """
    labels = np.full(len(features), Grouping.DEAD, np.int64)
    adopted = np.zeros(len(features), np.bool_)
    live, unit = live_channels(features, live_threshold)
    labels[live] = Grouping.NOISE
    if len(live) < 2:
        return Grouping(labels, adopted, None)
    clustered = None if most is None or len(live) <= most else _strongest(_norms(features)[live], most)
    some = unit if clustered is None else unit[clustered]
    distances = cosine_distances(some)
    eps = max(float(np.median(neighbour_distance(distances, neighbour))), EPS_FLOOR)
    found = dbscan(distances, eps=eps, min_samples=min_samples)
    if clustered is not None:
        everything = np.full(len(live), Grouping.NOISE, np.int64)
        everything[clustered] = found
        found = everything
    noise = np.flatnonzero(found < 0)
    if 0 < len(noise) < len(found):
        found[noise] = _nearest_centroid(unit, found, noise)
        adopted[live[noise]] = True
    labels[live] = found
    return Grouping(labels, adopted, eps)


def _strongest(norms: NDArray[np.float32], most: int) -> NDArray[np.intp]:
    """The places of the `most` largest, in order; of equal ones the first."""
    return np.sort(np.argsort(-norms, kind="stable")[:most])


def _nearest_centroid(
    unit: NDArray[np.float32], labels: NDArray[np.int64], rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    members = np.flatnonzero(labels >= 0)
    member_of = labels[members] == np.arange(labels.max() + 1)[:, None]
    centroids = product(member_of.astype(np.float32), unit[members])
    lengths = _norms(centroids)
    # Opposite rows can cancel where values are signed; such a centroid is near to nothing.
    centroids /= np.maximum(lengths, np.finfo(np.float32).tiny)[:, None]
    return product(unit[rows], centroids.T).argmax(axis=1)


def shuffle_clusters(clusters: Grouping, seed: int) -> Grouping:
    """A control: the same cluster sizes over the same live channels, members drawn at random."""
    labels = clusters.labels.copy()
    live = np.flatnonzero(labels != Grouping.DEAD)
    labels[live] = np.random.default_rng(seed).permutation(labels[live])
    return Grouping(labels, np.zeros(len(labels), np.bool_), clusters.eps)


def split_by_sign(labels: NDArray[np.int64], evidence: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """Divide each cluster into channels with positive, negative and no evidence.

    labels: int64 (C,) as in `Grouping`; channels that are noise become groups of their
    own, and dead ones -1. evidence: (C,). Returns int64 (C,) group numbers without gaps.
    """
    groups = np.full(labels.shape, -1, np.int64)
    live = np.flatnonzero(labels != Grouping.DEAD)
    own = labels[live].copy()
    noise = own < 0
    own[noise] = len(labels) + np.arange(np.count_nonzero(noise))
    signs = np.sign(evidence[live]).astype(np.int64) + 1
    groups[live] = np.unique(own * 3 + signs, return_inverse=True)[1].reshape(-1)
    return groups
