"""Whether a mean or a share of photos keeps its limit: shown, refuted, or not known yet.

The photos are a sample, and more are added in steps until the answer is known; an ordinary interval that is looked at
several times promises too much. Both procedures here hold over all looks together: what misses its limit passes with a
probability of at most `RISK`, and what keeps it fails with at most that. For means there is one exception: photos that
are rarer than the sample and worse than is reckoned with (`_WORST`) can make what misses its limit pass more often; in
simulations where 1 photo in 50 has half of the loss, in 6 to 8 % of the runs. Simulations: `benchmarks/verdict.py`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...runtime.contract.manifest import Outcome

__all__ = [
    "RISK",
    "Decision",
    "fewer_than",
    "mean_within",
    "most_needed",
    "planned_looks",
    "risks",
    "share_within",
]

#: Probability of passing at the limit, and of failing there, over all looks.
RISK = 0.05

#: No look at fewer photos, unless there are no more.
_FIRST_LOOK = 25
#: Share of the risk that is left for the last look; of what remains, the look before has as much, and so on.
_LAST = 0.8
#: A photo that has not been seen yet is taken to be at most so many times as far off as the limit allows on average
#: (but not further than a lost map, 1), or as far as the worst one that was seen.
_WORST = 20
#: Bets as shares of the largest that no photo can ruin, and the part of the capital on each. Large bets win soon where
#: all photos keep the limit clearly, small ones where they vary.
_BETS = np.array([0.98, 0.49, 0.245, 0.1225, 0.06125])
_CAPITAL = np.array([0.4, 0.2, 0.2, 0.1, 0.1])
#: Beyond this many photos, nobody is told how many would decide.
_MOST = 100_000


@dataclass(frozen=True)
class Decision:
    """outcome: of all photos so far. needed: photos that would about decide, None where decided or where the
    measured value is too close to its limit for any number to be named."""

    outcome: Outcome
    needed: int | None = None


def planned_looks(total: int) -> tuple[int, ...]:
    """After how many of `total` photos the verdict is looked at: all, half, a quarter, ..., but not under 25.

    >>> planned_looks(185)
    (47, 93, 185)
    """
    looks = [total]
    while (looks[-1] + 1) // 2 >= _FIRST_LOOK:
        looks.append((looks[-1] + 1) // 2)
    return tuple(reversed(looks))


def risks(looks: int) -> tuple[float, ...]:
    """How much of `RISK` each of so many looks may spend; the sum is at most `RISK`."""
    return tuple(RISK * _LAST * (1 - _LAST) ** (looks - 1 - number) for number in range(looks))


def mean_within(losses: ArrayLike, scales: ArrayLike, weights: ArrayLike, allowed: float) -> Decision:
    """Whether the mean loss is at most `allowed` times the mean scale, by betting (Waudby-Smith and Ramdas, "Estimating
    means of bounded random variables by betting", JRSS B 2024).

    Somebody bets on each photo that the limit is kept; where it is not, the capital grows twentyfold with a probability
    of at most 1 in 20, however often it is looked at, and however skewed the losses are. Somebody else bets against it.

    Args:
        losses: float (n,), of each photo; negative where it is better than the reference.
        scales: float (n,), 0 to 2.
        weights: float (n,), 0 to 1.
        allowed: Part of the scale, not negative. 0: no photo may lose anything.

    Returns:
        The decision; undecided without photos.
    """
    loss, scale, weight = (np.asarray(values, np.float64) for values in (losses, scales, weights))
    gains = weight * (allowed * scale - loss)
    if not len(gains):
        return Decision("undecided")
    if allowed == 0:
        return Decision("passed" if (gains >= 0).all() else "failed")
    worst = min(1.0, _WORST * allowed * float((weight * scale).mean()))
    if worst == 0:  # no scale at all
        return Decision("undecided")
    if _capital(gains, worst) >= 1 / RISK:
        return Decision("passed")
    if _capital(-gains, worst) >= 1 / RISK:
        return Decision("failed")
    return Decision("undecided", _needed_bets(gains if gains.mean() > 0 else -gains, worst))


def share_within(hits: int, count: int, most: float, risk: float = RISK) -> Decision:
    """Whether at most the share `most` of all photos is hit, by the exact interval (Clopper and Pearson, 1934).

    Args:
        hits: Photos that are hit.
        count: Of so many.
        most: 0 to 1. 0: no photo may be hit.
        risk: Of either error, in this look.

    Returns:
        The decision.
    """
    from scipy.stats import binom

    if most <= 0:
        return Decision("failed" if hits else "passed")
    if hits < count and binom.cdf(hits, count, most) <= risk:
        return Decision("passed")
    if binom.sf(hits - 1, count, most) <= risk:
        return Decision("failed")
    more = np.unique(np.geomspace(count + 1, max(_MOST, count + 1), 400).astype(int))
    then = np.rint(hits / count * more)
    decided = (binom.cdf(then, more, most) <= risk) & (then < more) | (binom.sf(then - 1, more, most) <= risk)
    return Decision("undecided", _rounded(int(more[decided.argmax()])) if decided.any() else None)


def fewer_than(first: int, second: int, risk: float = RISK) -> Outcome:
    """Of photos that only one of two hit, `first` by the one and `second` by the other: whether the one hits fewer.

    The sign test: passed where it is shown, failed where the opposite is.
    """
    from scipy.stats import binom

    both = first + second
    if binom.cdf(first, both, 0.5) <= risk:
        return "passed"
    return "failed" if binom.cdf(second, both, 0.5) <= risk else "undecided"


def _logs(gains: NDArray[np.float64], worst: float) -> NDArray[np.float64]:
    """Logarithm of what one unit on each bet has become, (bets,). worst: the largest loss that is reckoned with; that
    of a photo among these, if it is larger."""
    return np.log1p(np.outer(_BETS, gains / max(worst, float(-gains.min())))).sum(axis=1)


def _capital(gains: NDArray[np.float64], worst: float) -> float:
    return float(_CAPITAL @ np.exp(np.minimum(_logs(gains, worst), 700)))


def _needed_bets(gains: NDArray[np.float64], worst: float) -> int | None:
    """Photos after which the bet that has done best will decide if photos go on like this."""
    growth = _logs(gains, worst) / len(gains)
    with np.errstate(divide="ignore", invalid="ignore"):
        photos = np.where(growth > 0, np.log(1 / RISK / _CAPITAL) / growth, np.inf)
    most = float(photos.min())
    return _rounded(max(math.ceil(most), len(gains) + 1)) if most <= _MOST else None


def _rounded(photos: int) -> int:
    """Two digits say enough."""
    step = 10 ** max(0, len(str(photos)) - 2)
    return math.ceil(photos / step) * step


def most_needed(needed: Sequence[int | None]) -> int | None:
    """Photos for all of several decisions; None where one of them names none."""
    known = [one for one in needed if one is not None]
    return max(known) if known and len(known) == len(needed) else None
