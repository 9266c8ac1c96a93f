"""How often `cfcam verify` errs at its limits, and how many photos it takes: simulated runs, with all planned looks.

    python benchmarks/verdict.py --runs 2000

Losses per photo are skewed and bounded as those of real networks are: the mean loss of a candidate in INT8 is a part of
the scale, and few photos carry much of it.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable

import numpy as np
from cfcam.calibration.verify.deciding import mean_within, planned_looks, risks, share_within
from numpy.typing import NDArray

Losses = Callable[[np.random.Generator, int, float], NDArray[np.float64]]


def _few(share: float) -> Losses:
    """Half of the loss is carried by a small share of the photos."""

    def draw(rng: np.random.Generator, count: int, mean: float) -> NDArray[np.float64]:
        hit = rng.random(count) < share
        return rng.exponential(mean / 2, count) + hit * rng.exponential(mean / 2 / share, count)

    return draw


#: Name -> draws so many losses of a mean.
LOSSES: dict[str, Losses] = {
    "exponential": lambda rng, count, mean: rng.exponential(mean, count),
    "beta(1/2)": lambda rng, count, mean: rng.beta(0.5, 0.5 * (1 - mean) / mean, count),
    "lognormal, sigma 1": lambda rng, count, mean: mean * np.exp(rng.normal(-0.5, 1, count)),
    "lognormal, sigma 1.5": lambda rng, count, mean: mean * np.exp(rng.normal(-1.125, 1.5, count)),
    "1 in 20 has half of it": _few(0.05),
    "1 in 50 has half of it": _few(0.02),
}
_SCALE = 0.255  # mean of what `_scales` draws


def _scales(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    return 0.005 + rng.beta(0.8, 2.4, count)


def of_mean(rng: np.random.Generator, draw: Losses, limit: float, part: float, photos: int) -> str:
    """One run. part: mean loss as a part of what the limit allows."""
    loss, scale = draw(rng, photos, part * (1 - limit) * _SCALE), _scales(rng, photos)
    for look in planned_looks(photos):
        outcome = mean_within(loss[:look], scale[:look], np.ones(look), 1 - limit).outcome
        if outcome != "undecided":
            return outcome
    return "undecided"


def of_share(rng: np.random.Generator, most: float, part: float, photos: int) -> str:
    """One run. part: share of photos that are hit as a part of `most`."""
    hit, looks = rng.random(photos) < part * most, planned_looks(photos)
    for look, risk in zip(looks, risks(len(looks)), strict=True):
        outcome = share_within(int(hit[:look].sum()), look, most, risk).outcome
        if outcome != "undecided":
            return outcome
    return "undecided"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--photos", type=int, nargs="+", default=[11, 50, 100, 200, 400])
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    parts = (1.0, 0.1, 0.3, 0.5)
    print("| what | limit | photos | passed, failed at the limit | passed at .1, .3, .5 of it |\n|---|---|---|---|---|")
    for photos in options.photos:
        rows = [
            (f"mean, {name}", limit, functools.partial(of_mean, rng, draw, limit, photos=photos))
            for limit in (0.93, 0.97)
            for name, draw in LOSSES.items()
        ]
        rows += [("share", most, functools.partial(of_share, rng, most, photos=photos)) for most in (0.1, 0.02)]
        for what, limit, run in rows:
            at, *better = ([run(part=part) for _ in range(options.runs if part == 1 else 200)] for part in parts)
            err = f"{at.count('passed') / len(at):.1%}, {at.count('failed') / len(at):.1%}"
            seen = ", ".join(f"{one.count('passed') / len(one):.0%}" for one in better)
            print(f"| {what} | {limit:g} | {photos} | {err} | {seen} |", flush=True)


if __name__ == "__main__":
    main()
