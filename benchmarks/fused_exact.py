"""Fused files on sets of channels whose arithmetic has no rounding: labels against scikit-learn, maps against the host.

A channel that is as near to one centroid as to another joins either: centroids have lengths that are rounded. Such sets
are counted, shown to be ties in float64, and their maps are left out.

    python benchmarks/fused_exact.py                 # 800 sets, both forms; exit code 1 where anything differs
    python benchmarks/fused_exact.py --sets 1        # at least: of every size and kind one batch of 8

Every set is in a batch of 8, and one of each batch is run alone too. Sets are the same at every run (`--seed`).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.export.fused.plan import MOST_CLUSTERED, Form, FusedPlan
from cfcam.export.fused.rule import rule_graph
from cfcam.export.proof.session import Session
from cfcam.runtime.cam import normalise
from cfcam.runtime.methods import get_method
from cfcam.runtime.methods.cfcam.method import CfcamSettings
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from exact_sets import KINDS, exact_rows, largest_tie, wrong_labels

__all__ = ["Figures", "measure"]

SIZES = (8, 13, 33, 64, 100, 200, 512, 700, 1024, 2048)
_ALL_NOISE = "all noise"
_BATCH = 8
#: Cosines so close are equal in float32.
_TIE = 3e-7
_GRID, _SIZE = (4, 4), (40, 32)


@dataclass
class Figures:
    """Of one form: sets, labels that are not scikit-learn's, largest difference of a map from the host's and of a set
    alone from itself in the batch, other counts or emptiness than the host's, sets with no cluster, and sets in which
    rounding decides between two centroids."""

    sets: int = 0
    wrong: int = 0
    map: float = 0.0
    alone: float = 0.0
    other: int = 0
    noise: int = 0
    ties: int = 0

    @property
    def exact(self) -> bool:
        return self.wrong == self.other == 0 and max(self.map, self.alone) <= 1e-5


def measure(form: Form, sizes: tuple[int, ...] = SIZES, sets: int = 800, seed: int = 0) -> Figures:
    """Run about so many sets, in whole batches of every size and kind."""
    figures = Figures()
    for count, kind, settings, rounds in _cases(sizes, sets):
        random = np.random.default_rng((seed, count, *kind.encode()))
        session = Session(rule_graph(_plan(form, count, settings)).to_model(), threads=1)
        for _ in range(rounds):
            _compare(figures, session, [exact_rows(kind, count, random) for _ in range(_BATCH)], settings, random)
    return figures


def _cases(sizes: tuple[int, ...], sets: int) -> Iterator[tuple[int, str, CfcamSettings, int]]:
    kinds = (*KINDS, _ALL_NOISE)
    rounds = max(1, round(sets / (_BATCH * len(sizes) * len(kinds))))
    for count in sizes:
        for kind in kinds:
            # So many neighbours as there are channels has no channel of random ones.
            samples = min(count, 512) if kind == _ALL_NOISE else 3
            yield count, kind, CfcamSettings(last=True, feature_sigma=0, min_samples=samples), rounds


def _plan(form: Form, count: int, settings: CfcamSettings) -> FusedPlan:
    return FusedPlan(
        form=form, method="cfcam", settings=settings, channels=count, grid=_GRID, detail=None, rivals=False,
        map_size="input", size=_SIZE, labels=True,
    )  # fmt: skip


def _compare(
    figures: Figures,
    session: Session,
    rows: list[NDArray[np.float32]],
    settings: CfcamSettings,
    random: np.random.Generator,
) -> None:
    a = np.stack(rows).reshape(_BATCH, -1, *_GRID)
    g = np.broadcast_to(random.standard_normal((*a.shape[:2], 1, 1)), a.shape).astype(np.float32)
    found = _run(session, a, g)
    for i, one in enumerate(rows):
        host = get_method("cfcam").run(a[i], g[i], settings)
        assert host.grouping is not None
        counts = host.grouping.counts()
        figures.sets += 1
        figures.noise += counts["clusters"] == 0
        figures.wrong += wrong_labels(found["cam_labels"][i], one, settings)
        labels = host.grouping.labels
        tie = largest_tie(found["cam_labels"][i], labels, one, settings)
        if (found["cam_labels"][i] == labels).all() or tie > _TIE:
            figures.map = max(figures.map, float(np.abs(found["cam_map"][i] - normalise(host.map, _SIZE)).max()))
            figures.wrong += tie > _TIE
        else:
            figures.ties += 1
        same = [counts[k] for k in ("clusters", "clustered", "noise", "dead")] == found["cam_counts"][i].tolist()
        figures.other += not same or bool(found["cam_empty"][i]) != bool(host.empty)
    i = int(random.integers(_BATCH))
    alone = _run(session, a[i : i + 1], g[i : i + 1])
    figures.wrong += int((alone["cam_labels"][0] != found["cam_labels"][i]).sum())
    figures.alone = max(figures.alone, float(np.abs(alone["cam_map"][0] - found["cam_map"][i]).max()))


def _run(session: Session, a: NDArray[np.float32], g: NDArray[np.float32]) -> dict[str, Any]:
    return {name: np.asarray(value) for name, value in session.run({"cam_activations": a, "cam_gradients": g}).items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sets", type=int, default=800)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    exact = True
    print(
        "| form | sets | without clusters | labels that differ | ties | other counts | map against the host's | alone |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for form in MOST_CLUSTERED:
        started = time.process_time()
        one = measure(form, sets=asked.sets, seed=asked.seed)
        cells = (one.sets, one.noise, one.wrong, one.ties, one.other, f"{one.map:.1e}", f"{one.alone:.1e}")
        print(f"| `{form}` | {' | '.join(map(str, cells))} |", flush=True)
        print(f"{form}: {time.process_time() - started:.0f} s of processor time", file=sys.stderr)
        exact = exact and one.exact
    return 0 if exact else 1


if __name__ == "__main__":
    sys.exit(main())
