"""Does the default beat its rivals? The protocol of docs/results/two-layers.md, run.

    python benchmarks/evidence.py tune          # the tuning half, as often as one likes
    python benchmarks/evidence.py test          # the held-out half; its figures are in docs/results/two-layers.md

Figures per photo and network are kept in build/evidence, so that a killed run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
from cfcam.calibration.measures import baselines, cell_regions, insertion_deletion, pixel_precision, spearman
from cfcam.calibration.sensitivity import class_sensitivity
from cfcam.calibration.statistics import Difference, holm, mean_interval, paired_difference, smallest_effect
from cfcam.runtime.cam import normalise
from cfcam.runtime.contract.modelfile import read_spec
from cfcam.runtime.engines.base import Engine
from cfcam.runtime.engines.opening import open_engine
from cfcam.runtime.methods import get_method, make_settings
from cfcam.runtime.methods.cfcam.filtering import gaussian
from cfcam.runtime.methods.layer_fusion import FUSIONS
from cfcam.runtime.probabilities import class_probabilities
from evidence_networks import FILES, NETWORKS, TEST, TUNE, Network
from evidence_photos import Tensors, photos, tensors
from numpy.typing import NDArray

#: Of the curves of insertion and deletion; the fill is the blurred photo.
STEPS = 16
#: Gradient noise, as a share of the gradient's own standard deviation.
NOISE = 1.0
#: The measures on which claims are made, and whether more is better in all of them (it is).
MEASURES = ("pixel_ap", "insertion_deletion", "mosaic_ap", "gradient_noise")
#: Printed beside them, without claims.
ALSO = ("mosaic_sensitivity", "second_sensitivity")

Plane = NDArray[np.float32]
#: Activations, gradients, whether it is the last layer -> map on the layer's grid.
Rule = Callable[[NDArray[Any], NDArray[Any], bool], Plane]


def rule(name: str, **settings: Any) -> Rule:
    """A registered rule, told which layer it sees as the exported file tells it."""
    method = get_method(name)

    def run(a: NDArray[Any], g: NDArray[Any], last: bool) -> Plane:
        values = {**settings, "last": last} if name == "cfcam" else settings
        return method.run(a, g, make_settings(method, values or None)).map

    return run


def blurred(inner: Rule, sigma: float) -> Rule:
    return lambda a, g, last: gaussian(inner(a, g, last)[None], sigma)[0]


def class_blind(a: NDArray[Any], g: NDArray[Any], last: bool) -> Plane:
    """The mean activation: no gradient, no class."""
    return np.asarray(np.maximum(a.mean(axis=0), 0), np.float32)


def fusion(name: str) -> Callable[[Plane, Plane], Plane]:
    """The runtime's way to join the maps of two layers, both in [0, 1] on one grid."""
    return lambda first, second: FUSIONS[name](np.stack([first, second]))


@dataclass(frozen=True)
class Row:
    """One method. layers: what it sees. rules: one per layer. join: how two maps become one."""

    name: str
    layers: tuple[str, ...]
    rules: tuple[Rule, ...]
    join: Callable[[Plane, Plane], Plane] | None = None
    #: Insertion and deletion take hundreds of inferences per photo: left out for some controls.
    curves: bool = True

    @property
    def key(self) -> str:
        return f"{self.name} [{'+'.join(self.layers)}]"

    def map(self, data: Mapping[str, tuple[NDArray[Any], NDArray[Any]]]) -> Plane:
        """data: layer -> activations and gradients (C, h, w) of one image."""
        maps = [run(*data[layer], layer == "last") for layer, run in zip(self.layers, self.rules, strict=True)]
        if self.join is None:
            return maps[0]
        grid = max(one.shape for one in maps)
        return self.join(*(normalise(one, grid) for one in maps))


RIVALS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "layercam", "eigencam", "eigengradcam")


def rows() -> list[Row]:
    """Ours, the rivals in both layers, and the controls."""
    found = [Row("cfcam", ("last", "middle"), (rule("cfcam"),) * 2, fusion("gate"))]
    for layer in ("last", "middle"):
        found.append(Row("cfcam", (layer,), (rule("cfcam"),)))
        found += [Row(name, (layer,), (rule(name),)) for name in RIVALS]
        # Parts switched off one by one, and controls that expose a decoration.
        found.append(Row("random groups", (layer,), (rule("cfcam", clustering="random"),)))
        found.append(Row("no clusters", (layer,), (rule("cfcam", clustering="none"),), curves=False))
        found.append(Row("no sharing", (layer,), (rule("cfcam", shrinkage=0),), curves=False))
        found.append(Row("no filter", (layer,), (rule("cfcam", sigma=0, map_sigma=0),), curves=False))
        found.append(Row("class-blind", (layer,), (class_blind,), curves=False))
    found.append(Row("sign groups only", ("middle",), (rule("cfcam", clustering="none", shrinkage=0),), curves=False))
    found.append(Row("gradcam blurred", ("last",), (blurred(rule("gradcam"), 0.7),)))
    two = ("last", "middle")
    found.append(Row("random groups", two, (rule("cfcam", clustering="random"),) * 2, fusion("gate")))
    found.append(Row("no clusters", two, (rule("cfcam", clustering="none"),) * 2, fusion("gate"), curves=False))
    found.append(Row("no filter", two, (rule("cfcam", sigma=0, map_sigma=0),) * 2, fusion("gate"), curves=False))
    found.append(Row("gradcam x layercam", two, (rule("gradcam"), rule("layercam")), fusion("gate")))
    found.append(Row("product", two, (rule("cfcam"),) * 2, fusion("product"), curves=False))
    return found


def measure(network: Network, half: str, every: list[Row]) -> dict[str, dict[str, dict[str, float]]]:
    """method -> measure -> photo -> figure, from the kept file as far as it goes."""
    kept = FILES / f"{network.name}.{half}.figures.json"
    figures: dict[str, dict[str, dict[str, float]]] = json.loads(kept.read_text()) if kept.exists() else {}
    layers = {layer: tensors(network, layer) for layer in ("last", "middle")}
    with open_engine(network.file("last"), threads=1) as engine:
        for row in every:
            if row.key in figures:
                continue
            started = time.monotonic()
            figures[row.key] = _figures(row, layers, half, partial(_predict, engine, network) if row.curves else None)
            kept.with_suffix(".part").write_text(json.dumps(figures))
            kept.with_suffix(".part").replace(kept)
            print(f"{network.name}: {row.key}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        for name, explain in baselines().items():
            if name not in figures:
                figures[name] = _baseline(explain, layers["last"], half, partial(_predict, engine, network))
                kept.write_text(json.dumps(figures))
    return figures


def _predict(engine: Engine, network: Network, images: NDArray[Any]) -> NDArray[np.float32]:
    spec = read_spec(network.file("last"))
    feed = {spec.input.name: images.astype(np.float32), spec.target: np.full(len(images), -1, np.int64)}
    scores = engine.infer(feed, [spec.output.name])[spec.output.name]
    return class_probabilities(scores.reshape(len(images), -1), spec.output.kind)


def _half(half: str) -> list[int]:
    return [number for number, photo in enumerate(photos()) if photo.tune == (half == "tune")]


def _figures(row: Row, layers: Mapping[str, Tensors], half: str, predict: Any) -> dict[str, dict[str, float]]:
    first = layers["last"]
    size = (int(first.images.shape[2]), int(first.images.shape[3]))
    found: dict[str, dict[str, float]] = {name: {} for name in (*MEASURES, *ALSO, "ms")}
    names = [photo.path.name for photo in photos()]
    tops = []
    for i in _half(half):
        started = time.perf_counter()
        label = row.map({k: (t.a[i], t.g_label[i]) for k, t in layers.items()})
        found["ms"][names[i]] = (time.perf_counter() - started) * 1000
        second = row.map({k: (t.a[i], t.g_second[i]) for k, t in layers.items()})
        tops.append(normalise(row.map({k: (t.a[i], t.g_top[i]) for k, t in layers.items()}), size))
        if first.regions[i].any():
            found["pixel_ap"][names[i]] = float(
                pixel_precision(normalise(label, size)[None], first.regions[i][None])[0]
            )
        found["second_sensitivity"][names[i]] = class_sensitivity(label, second)
        found["gradient_noise"][names[i]] = _noise(row, layers, i, label)
    if predict is not None:
        which = _half(half)
        curves = insertion_deletion(predict, first.images[which], first.top[which], np.stack(tops), steps=STEPS)
        area = curves.area(curves.insertion) - curves.area(curves.deletion)
        found["insertion_deletion"] = {names[i]: float(value) for i, value in zip(which, area, strict=True)}
    for name, values in _mosaics(row, layers, half, size).items():
        found[name] = {names[i]: float(np.nanmean(some)) for i, some in values.items()}
    return found


def _noise(row: Row, layers: Mapping[str, Tensors], i: int, clean: Plane) -> float:
    rng = np.random.default_rng(zlib.crc32(photos()[i].path.name.encode()))
    found = []
    for _ in range(2):
        noisy = {}
        for layer, t in layers.items():
            g = t.g_label[i]
            noisy[layer] = (t.a[i], g + (NOISE * g.std() * rng.standard_normal(g.shape)).astype(np.float32))
        found.append(spearman(clean, row.map(noisy)))
    return float(np.nan_to_num(np.mean(found)))


def _mosaics(
    row: Row, layers: Mapping[str, Tensors], half: str, size: tuple[int, int]
) -> dict[str, dict[int, list[float]]]:
    """Figures by photo number: a photo stands in several mosaics, and counts once."""
    first, inside = layers["last"], set(_half(half))
    even = (size[0] // 2 * 2, size[1] // 2 * 2)
    cells = np.stack(
        [np.pad(cell, [(0, size[0] - even[0]), (0, size[1] - even[1])]) for cell in cell_regions(*even, 2)]
    )
    found: dict[str, dict[int, list[float]]] = {"mosaic_ap": {}, "mosaic_sensitivity": {}}
    for m, group in enumerate(first.mosaics):
        if not set(map(int, group)) <= inside:
            continue
        maps = [row.map({k: (t.ma[m], t.mg[m, cell]) for k, t in layers.items()}) for cell in range(4)]
        for cell, photo in enumerate(map(int, group)):
            precision = pixel_precision(normalise(maps[cell], size)[None], cells[cell][None])[0]
            others = [class_sensitivity(maps[cell], maps[other]) for other in range(4) if other != cell]
            found["mosaic_ap"].setdefault(photo, []).append(float(precision))
            found["mosaic_sensitivity"].setdefault(photo, []).append(float(np.mean(others)))
    return found


def _baseline(explain: Any, t: Tensors, half: str, predict: Any) -> dict[str, dict[str, float]]:
    names, which = [photo.path.name for photo in photos()], _half(half)
    maps = explain(t.images[which], t.top[which])
    curves = insertion_deletion(predict, t.images[which], t.top[which], maps, steps=STEPS)
    area = curves.area(curves.insertion) - curves.area(curves.deletion)
    precision = [
        (names[i], float(pixel_precision(one[None], t.regions[i][None])[0]))
        for i, one in zip(which, maps, strict=True)
        if t.regions[i].any()
    ]
    found: dict[str, dict[str, float]] = {name: {} for name in (*MEASURES, *ALSO, "ms")}
    found["pixel_ap"] = dict(precision)
    found["insertion_deletion"] = {names[i]: float(value) for i, value in zip(which, area, strict=True)}
    return found


Figures = dict[str, dict[str, dict[str, float]]]


def joined(each: Iterable[Figures]) -> Figures:
    """The mean over networks, photo by photo: the photo is the unit."""
    together: dict[str, dict[str, dict[str, list[float]]]] = {}
    for figures in each:
        for method, measures in figures.items():
            for name, values in measures.items():
                for photo, value in values.items():
                    if not math.isnan(value):
                        together.setdefault(method, {}).setdefault(name, {}).setdefault(photo, []).append(value)
    return {
        method: {name: {photo: float(np.mean(v)) for photo, v in values.items()} for name, values in measures.items()}
        for method, measures in together.items()
    }


@dataclass(frozen=True)
class Claim:
    """One comparison: ours less the rival's, on one measure."""

    ours: str
    rival: str
    measure: str
    found: Difference
    corrected: float

    @property
    def shown(self) -> bool:
        return self.found.shown and self.corrected < 0.05


def claims(figures: Figures, ours: str, rivals: Iterable[str]) -> list[Claim]:
    """Paired over photos, Holm over all of them together."""
    pairs = []
    for rival in rivals:
        for name in MEASURES:
            a, b = figures[ours].get(name, {}), figures[rival].get(name, {})
            both = sorted(set(a) & set(b))
            if both:
                pairs.append((rival, name, paired_difference([a[p] for p in both], [b[p] for p in both])))
    corrected = holm([found.p_value for _, _, found in pairs])
    return [Claim(ours, rival, name, found, float(p)) for (rival, name, found), p in zip(pairs, corrected, strict=True)]


def report(figures: Figures) -> str:
    """Both tables as Markdown."""
    columns = (*MEASURES, *ALSO, "ms")
    lines = ["| method | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for method, measures in figures.items():
        cells = []
        for name in columns:
            values = list(measures.get(name, {}).values())
            if not values:
                cells.append("")
            elif name == "ms":
                cells.append(f"{np.median(values):.1f}")
            elif len(values) < 10:
                cells.append(f"{np.mean(values):.3f} (n {len(values)})")
            else:
                interval = mean_interval(values)
                cells.append(f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]")
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines.append("")
    families = {
        "cfcam [last+middle]": [f"{name} [{layer}]" for layer in ("last", "middle") for name in RIVALS]
        + ["gradcam x layercam [last+middle]", "random groups [last+middle]", "gradcam blurred [last]"],
        "cfcam [last]": [f"{name} [last]" for name in (*RIVALS, "gradcam blurred", "random groups", "no clusters")],
        "cfcam [middle]": [
            f"{name} [middle]" for name in (*RIVALS, "random groups", "no clusters", "sign groups only")
        ],
    }
    for ours, rivals in families.items():
        lines += [f"### {ours}, less", "", "| rival | " + " | ".join(MEASURES) + " |", "|---|" + "---|" * len(MEASURES)]
        found = claims(figures, ours, rivals)
        for rival in rivals:
            by = {claim.measure: claim for claim in found if claim.rival == rival}
            cells = [_cell(by.get(name)) for name in MEASURES]
            lines.append(f"| {rival} | " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join(lines)


def _cell(claim: Claim | None) -> str:
    if claim is None:
        return ""
    text = f"{claim.found.mean:+.3f} [{claim.found.low:+.3f}, {claim.found.high:+.3f}]"
    return f"**{text}**" if claim.shown else text


def smallest(figures: Figures) -> str:
    """What the held-out half can show, from the spread of the tuning half's differences to Grad-CAM."""
    lines = ["| measure | spread | photos | smallest effect |", "|---|---|---|---|"]
    ours, rival = figures["cfcam [last+middle]"], figures["gradcam [last]"]
    held = {"pixel_ap": 24, "insertion_deletion": 30, "mosaic_ap": 15, "gradient_noise": 30}
    for name in MEASURES:
        both = sorted(set(ours[name]) & set(rival[name]))
        spread = float(np.std([ours[name][p] - rival[name][p] for p in both], ddof=1))
        lines.append(f"| {name} | {spread:.3f} | {held[name]} | {smallest_effect(spread, held[name]):.3f} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("half", choices=("tune", "test"))
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help="some of the half's networks")
    options = parser.parse_args()
    names = options.networks or (TUNE if options.half == "tune" else TEST)
    each = {name: measure(NETWORKS[name], options.half, rows()) for name in names}
    figures = joined(each.values())
    print(f"{', '.join(names)}; {len(_half(options.half))} photos\n")
    print(report(figures))
    if options.half == "tune":
        print(smallest(figures))
    else:
        for name, one in each.items():
            print(f"\n## {name}\n\n{report(joined([one]))}")
    document = {"networks": names, "figures": figures, "claims": [asdict(c) for c in claims_of(figures)]}
    (FILES / f"{options.half}.json").write_text(json.dumps(document, indent=1))
    return 0


def claims_of(figures: Figures) -> list[Claim]:
    """The family that the protocol names first."""
    rivals = [f"{name} [{layer}]" for layer in ("last", "middle") for name in RIVALS]
    return claims(figures, "cfcam [last+middle]", rivals)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
