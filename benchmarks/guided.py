"""Is the guided form better, and which part makes it so? The protocol of docs/results/guided.md, run.

    python benchmarks/guided.py develop     # the development photos: the table, and what the open choices come to
    python benchmarks/guided.py peers       # the newest methods of other packages, on the same photos
    python benchmarks/guided.py confirm     # the confirmation photos, for one frozen choice

Figures of each network and photo are kept in build/guided, so that a stopped run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.calibration.measures import (
    EngineAccess,
    cell_regions,
    choose_groups,
    insertion_deletion,
    make_mosaic,
    pixel_precision,
    spearman,
)
from cfcam.calibration.sensitivity import class_sensitivity
from cfcam.calibration.statistics import TooFewPhotosError
from cfcam.runtime import Explainer
from cfcam.runtime.cam import normalise
from evidence_networks import NETWORKS, ROOT, Network, installed
from guided_photos import Instrument, Photo, Region, Seen, confirmation, development, with_noise
from guided_report import report
from guided_rows import ALTERNATIVE, GUIDED, Row, confirmation_rows, development_rows, named, peer_rows, with_curves

KEPT = ROOT / "build" / "guided"
#: Of the curves of insertion and deletion, as in evidence.py.
STEPS = 16
#: Least probability of its class for a photo to enter a mosaic, and into how many it may come.
CONFIDENCE, ROUNDS = 0.4, 2

#: Row -> measure -> figure, of one photo and network.
Figures = dict[str, dict[str, float]]


Rows = Mapping[str, Row]


@dataclass(frozen=True)
class Part:
    """What is measured: rows on photos. bases: the rows that the others are subtracted from."""

    name: str
    photos: Sequence[Photo]
    rows: Rows
    bases: Sequence[str] = (GUIDED,)
    nearest: bool = False


PARTS = {
    "develop": lambda: Part("develop", development(), development_rows(), (GUIDED, named(*ALTERNATIVE))),
    "peers": lambda: Part("peers", development(), peer_rows(), nearest=True),
    "confirm": lambda: Part("confirm", confirmation(), confirmation_rows()),
}


class Kept:
    """Lines of JSON, one of each thing that was measured: name -> figures by row, and what else is worth keeping."""

    def __init__(self, path: Path, rows: Sequence[str]) -> None:
        self._path, self._rows = path, list(rows)
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        # What was measured with other rows does not count; nor does the last line of a run that was killed.
        self.found = {one["name"]: one for one in map(_line, lines) if one.get("rows") == self._rows}

    def get(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        if name not in self.found:
            self.found[name] = {"name": name, "rows": self._rows, **measure()}
            with self._path.open("a") as file:
                file.write(json.dumps(self.found[name]) + "\n")
        return self.found[name]


def _line(text: str) -> dict[str, Any]:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {}


def single(instrument: Instrument, photo: Photo, seen: Seen, rows: Rows) -> Figures:
    """The measures of one photo as it is, for all rows."""
    classes = [seen.label, seen.second, seen.label]
    images = [seen.image, seen.image, with_noise(photo, seen.image)]
    pair = seen.pair or ()
    found = instrument.arrays([*images, *[seen.image] * len(pair)], [*classes, *(index for index, _ in pair)])
    clean, second, noisy, *both = found
    size = (seen.image.shape[1], seen.image.shape[2])
    figures: Figures = {}
    for name, row in rows.items():
        mine = row.map(clean)
        figures[name] = {
            "noise": spearman(*_on_one_grid(mine, row.map(noisy))),
            "second": class_sensitivity(*_on_one_grid(row.map(clean, contrast=0.0), row.map(second, contrast=0.0))),
        }
        if seen.region is not None:
            figures[name]["pixel_ap"] = float(pixel_precision(normalise(mine, size)[None], seen.region[None])[0])
        if seen.pair is not None:
            maps = [normalise(row.map(one), size) for one in both]
            figures[name] |= _apart(maps, [region for _, region in seen.pair])
    return figures


def _on_one_grid(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two maps on the finer one's grid: a map without evidence is not guided, and stays on the coarse one."""
    if first.shape == second.shape:
        return first, second
    size = max(first.shape, second.shape)
    return normalise(first, size), normalise(second, size)


def _apart(maps: Sequence[np.ndarray], regions: Sequence[Region]) -> dict[str, float]:
    """How far each map is on its own object; a map that is blind to the class gets 0 and one half."""
    share, rank = [], []
    for mine, own, other in zip(maps, regions, reversed(regions), strict=True):
        inside, outside = mine[own], mine[other]
        share.append((inside.mean() - outside.mean()) / max(inside.mean() + outside.mean(), 1e-12))
        below = np.sort(outside)
        places = np.searchsorted(below, inside, "left") + np.searchsorted(below, inside, "right")
        rank.append(places.mean() / 2 / len(below))
    return {"own_other": float(np.mean(share)), "own_rank": float(np.mean(rank))}


def curves(access: EngineAccess, instrument: Instrument, seen: Seen, rows: Rows) -> Figures:
    """Insertion less deletion of the top class."""
    [arrays] = instrument.arrays([seen.image], [seen.top])
    size = (seen.image.shape[1], seen.image.shape[2])
    maps = np.stack([normalise(row.map(arrays), size) for row in rows.values()])
    images = np.repeat(seen.image[None], len(maps), axis=0)
    found = insertion_deletion(access.predict, images, np.full(len(maps), seen.top), maps, steps=STEPS)
    return {
        name: {"ins_del": float(value)} for name, value in zip(rows, found.areas()["insertion_deletion"], strict=True)
    }


def mosaic(instrument: Instrument, images: Sequence[np.ndarray], labels: Sequence[int], rows: Rows) -> list[Figures]:
    """Figures of each of the four photos in one mosaic."""
    picture = make_mosaic(np.stack(images))
    cells = cell_regions(picture.shape[1], picture.shape[2])
    found = instrument.arrays([picture] * 4, labels)
    size = (picture.shape[1], picture.shape[2])
    each: list[Figures] = []
    for arrays, cell in zip(found, cells, strict=True):
        maps = {name: normalise(row.map(arrays), size) for name, row in rows.items()}
        each.append(
            {name: {"mosaic_ap": float(pixel_precision(one[None], cell[None])[0])} for name, one in maps.items()}
        )
    return each


def measure(part: Part, network: Network, every: int, place: tuple[int, int]) -> list[Figures]:
    """Figures of every photo, in order. every: curves on each so many photos. place: which of how many networks."""
    photos, rows = part.photos, part.rows
    some = {name: rows[name] for name in with_curves(rows)}
    kept = Kept(KEPT / f"{part.name}.{network.name}.jsonl", list(rows))
    curved = Kept(KEPT / f"{part.name}.{network.name}.curves.jsonl", list(some))
    instrument = Instrument.open(network, part.nearest)
    known: list[tuple[int, int, float]] = []
    found: list[Figures] = []
    with Explainer(network.file("last"), threads=1) as explainer:
        access = EngineAccess(explainer, "gradcam")
        for number, photo in enumerate(photos):
            line = kept.get(photo.path.name, lambda photo=photo: _single(instrument, photo, rows))
            figures: Figures = line["figures"]
            if line["known"]:
                known.append((number, line["label"], line["probability"]))
            if number % every == 0 and number // every % place[1] == place[0]:
                more = curved.get(
                    photo.path.name,
                    lambda photo=photo: {"figures": curves(access, instrument, instrument.look(photo), some)},
                )
                _add(figures, more["figures"])
            found.append(figures)
            _progress(f"{part.name}, {network.name}: photo {number + 1} of {len(photos)}")
    of_mosaics: dict[tuple[int, str], list[float]] = {}
    for groups in _groups(known, network.name):
        for group in groups:
            name = "mosaic " + " ".join(photos[number].path.name for number, _ in group)
            line = kept.get(name, lambda group=group: {"each": _mosaic(instrument, photos, group, rows)})
            for (number, _), figures in zip(group, line["each"], strict=True):
                for row, values in figures.items():
                    of_mosaics.setdefault((number, row), []).append(values["mosaic_ap"])
            _progress(f"{part.name}, {network.name}: {name}")
    for (number, row), values in of_mosaics.items():
        found[number].setdefault(row, {})["mosaic_ap"] = float(np.mean(values))
    return found


def _single(instrument: Instrument, photo: Photo, rows: Rows) -> dict[str, Any]:
    seen = instrument.look(photo)
    probability = float(seen.probabilities[seen.label])
    known = seen.known and probability >= CONFIDENCE
    return {
        "label": seen.label,
        "probability": probability,
        "known": known,
        "figures": single(instrument, photo, seen, rows) if seen.known or seen.pair else {},
    }


def _add(figures: Figures, more: Mapping[str, Mapping[str, float]]) -> None:
    for row, values in more.items():
        figures.setdefault(row, {}).update(values)


def _groups(known: Sequence[tuple[int, int, float]], network: str) -> list[list[list[tuple[int, int]]]]:
    """For every round, groups of four photos of different classes: (number, class) each."""
    table = np.zeros((len(known), 1 + max(label for _, label, _ in known)))
    labels = np.array([label for _, label, _ in known])
    table[np.arange(len(known)), labels] = [p for _, _, p in known]
    try:
        rounds = [choose_groups(table, labels, confidence=CONFIDENCE, seed=seed) for seed in range(ROUNDS)]
    except TooFewPhotosError as error:
        raise SystemExit(f"{network}: {error}") from None
    return [[[known[i][:2] for i in group] for group in groups] for groups in rounds]


def _mosaic(
    instrument: Instrument, photos: Sequence[Photo], group: Sequence[tuple[int, int]], rows: Rows
) -> list[Figures]:
    images, _ = instrument.access.load([photos[number].path for number, _ in group])
    return mosaic(instrument, list(images), [label for _, label in group], rows)


def _progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--networks", default="", metavar="NAME,NAME", help="some of those whose weights are here")
    parser.add_argument("--curves", type=int, default=3, metavar="N", help="insertion and deletion on every Nth photo")
    options = parser.parse_args()
    chosen = [NETWORKS[name] for name in options.networks.split(",")] if options.networks else list(installed())
    part = PARTS[options.part]()
    each = {
        network.name: measure(part, network, options.curves, (place, len(chosen)))
        for place, network in enumerate(chosen)
    }
    text = report(each, list(part.rows), part.bases)
    (KEPT / f"{part.name}.md").write_text(text)
    print(text)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
