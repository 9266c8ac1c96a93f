"""The signed maps of one layer: from activations, gradients and clusters to (N, K, h, w), one for each class.

Activations are float32 (N, C, h, w), gradients (N, K, C, h, w). What no class changes is computed once per image.
"""

from __future__ import annotations

import numpy as np

from ...runtime.methods.cfcam.filtering import feature_basis, line_matrix
from ...runtime.methods.cfcam.method import CfcamSettings
from ..reverse.emitter import Emitter, Value
from .arithmetic import TINY, as_index, both_axes, gather_rows, maximum, number, ratio, total
from .clusters import Clusters

__all__ = ["features", "means", "safe", "signed_map", "simple_map", "takes_means"]

#: Largest magnitudes from 2**-20 to 2**20 are used as they are, as the host does.
_SAFE = 2.0**20
#: Of a slice to the end of an axis.
_END = 2**31 - 1


def safe(e: Emitter, values: Value, apart: int = 1) -> Value:
    """`values`, divided by their largest magnitude where float32 could not hold sums of products.

    apart: how many axes in front count things that are divided apart: images, or images and classes.
    """
    axes = list(range(apart, values.rank))
    top = e.reduce("ReduceMax", e("Abs", values), axes)
    fits = number(e, top < _SAFE) * number(e, top > 1 / _SAFE)
    return values * (fits + (1.0 - fits) / maximum(e, top, TINY))


def features(e: Emitter, activations: Value, settings: CfcamSettings) -> Value:
    """float32 (N, C, D): what channels are compared by, see `blurred_features`."""
    batch, count, height, width = activations.dims
    assert isinstance(height, int)
    assert isinstance(width, int)
    basis = feature_basis(height, width, settings.feature_sigma)
    if isinstance(basis, np.ndarray):
        return e("MatMul", e.reshape(activations, activations, (batch, count, height * width)), e.constant(basis))
    if basis is None:
        return e.reshape(activations, activations, (batch, count, height * width))
    rows, columns, kept = basis
    found = both_axes(e, activations, rows, columns)
    flat = e.reshape(found, activations, (batch, count, height * width))
    return e("Gather", flat, e.ints(kept.tolist()), axis=2)


def takes_means(method: str, settings: CfcamSettings | None) -> bool:
    """Whether of the gradients only the mean of each channel's map counts; maps may be made of `means` then."""
    if settings is None:
        return method == "gradcam"
    return bool(settings.last) and not settings.sign_split and settings.sigma is None


def means(e: Emitter, gradients: Value) -> Value:
    """float32 (N, K, C) of gradients (N, K, C, h, w); what is (N, K, C) already is given back."""
    return gradients if gradients.rank == 3 else e.reduce("ReduceMean", gradients, [3, 4], keepdims=False)


def simple_map(e: Emitter, method: str, activations: Value, gradients: Value) -> Value:
    """The signed maps (N, K, h, w) of a method without clusters."""
    if method == "gradcam":
        return _weighted(e, means(e, gradients), activations)
    slopes = maximum(e, gradients, 0.0) if method == "layercam" else gradients
    return total(e, slopes * e.unsqueeze(activations, [1]), [2])


def _weighted(e: Emitter, weights: Value, activations: Value) -> Value:
    """sum_c w_c A_c, (N, K, h, w), of weights (N, K, C) and activations (N, C, h, w)."""
    batch, count, height, width = activations.dims
    assert isinstance(height, int)
    assert isinstance(width, int)
    flat = e.reshape(activations, activations, (batch, count, height * width))
    found = e("MatMul", weights, flat, shape=(batch, weights.dims[1], height * width))
    return e.reshape(found, found, (batch, weights.dims[1], height, width))


def signed_map(e: Emitter, activations: Value, gradients: Value, clusters: Clusters, settings: CfcamSettings) -> Value:
    """`cfcam`'s signed sums over the groups, (N, K, h, w)."""
    last = bool(settings.last)
    split = not last if settings.sign_split is None else settings.sign_split
    _batch, _count, height, width = activations.dims
    assert isinstance(height, int)
    assert isinstance(width, int)
    if takes_means("cfcam", settings):
        signed = _weighted(e, _shared_weights(e, means(e, gradients), clusters, settings), activations)
    else:
        if settings.sigma is not None or not last:
            sigma = 1.0 if settings.sigma is None else settings.sigma
            filtered = _blurred(e, gradients, sigma)
        else:
            filtered = e.expand(e.reduce("ReduceMean", gradients, [3, 4]), gradients)
        signed = _by_groups(e, activations, filtered, clusters, settings, split=split, clip=not last)
    map_sigma = settings.map_sigma if settings.map_sigma is not None else (0.0 if last else 0.5)
    return _blurred(e, signed, map_sigma)


def _blurred(e: Emitter, maps: Value, sigma: float) -> Value:
    if sigma == 0:
        return maps
    height, width = maps.dims[-2:]
    assert isinstance(height, int)
    assert isinstance(width, int)
    return both_axes(e, maps, line_matrix(height, sigma), line_matrix(width, sigma))


def _members(e: Emitter, clusters: Clusters) -> Value:
    """float32 (N, S, C): 1 where a channel is in a cluster."""
    same = e.unsqueeze(clusters.roots, [1]).equals(e.unsqueeze(clusters.numbers, [2]))
    return number(e, same) * e.unsqueeze(clusters.live, [1])


def _shared_weights(e: Emitter, slopes: Value, clusters: Clusters, settings: CfcamSettings) -> Value:
    """float32 (N, K, C): what each channel weighs, its slope (N, K, C) shrunk towards the mean of its cluster."""
    own, live = e.transpose(slopes, [0, 2, 1]), e.unsqueeze(clusters.live, [2])
    sums = e("MatMul", _members(e, clusters), e("Concat", live, own * live, axis=2))
    sizes = e.slice(sums, 2, 0, 1, length=1)
    means = ratio(e, e.slice(sums, 2, 1, _END, length=own.dims[2]), sizes)
    places = as_index(e, clusters.roots, e.dim(clusters.numbers, 1))
    shared = gather_rows(e, means, places) * settings.shrinkage + own * (1 - settings.shrinkage)
    if settings.size_exponent:
        shared = shared * gather_rows(e, _power(e, sizes, settings.size_exponent), places)
    found = e.unsqueeze(clusters.found, [2])
    return e.transpose((found * shared + (1.0 - found) * own) * live, [0, 2, 1])


def _power(e: Emitter, sizes: Value, exponent: float) -> Value:
    return e("Pow", maximum(e, sizes, 1.0), e.as_value(exponent, sizes.kind))


def _by_groups(
    e: Emitter,
    activations: Value,
    slopes: Value,
    clusters: Clusters,
    settings: CfcamSettings,
    *,
    split: bool,
    clip: bool,
) -> Value:
    """The sums of the groups' shares (`group_maps`), (N, K, h, w); clip: of each what is positive."""
    batch, count, height, width = activations.dims
    assert isinstance(height, int)
    assert isinstance(width, int)
    cells, classes, shrinkage = height * width, slopes.dims[1], settings.shrinkage
    a = e.unsqueeze(e.reshape(activations, activations, (batch, count, cells)), [1])
    g = e.reshape(slopes, slopes, (batch, classes, count, cells))
    own = a * g
    members = e.unsqueeze(_members(e, clusters), [1])
    parts = [members]
    if split:
        evidence = e("Sign", total(e, own, [3]))
        parts = [members * e.unsqueeze(number(e, evidence.equals(sign)), [2]) for sign in (-1.0, 0.0, 1.0)]
    both = e("Concat", g, own, axis=3)
    shares: Value | None = None
    for belongs in parts:
        sums, sum_a = e("MatMul", belongs, both), e("MatMul", belongs, a)
        size = maximum(e, total(e, belongs, [3], keepdims=True), 1.0)
        sum_g, sum_own = (e.slice(sums, 3, i * cells, (i + 1) * cells, length=cells) for i in range(2))
        share = sum_g / size * sum_a * shrinkage + sum_own * (1 - shrinkage)
        if settings.size_exponent:
            share = share * _power(e, size, settings.size_exponent)
        summed = total(e, maximum(e, share, 0.0) if clip else share, [2])
        shares = summed if shares is None else shares + summed
    assert shares is not None
    alone = own * e.unsqueeze(clusters.live, [1, 3])
    lone = total(e, maximum(e, alone, 0.0) if clip else alone, [2])
    found = e.unsqueeze(clusters.found, [2])
    signed = shares * found + lone * (1.0 - found)
    return e.reshape(signed, signed, (batch, classes, height, width))
