"""The page and the plots of `peers.py`, from its results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from peers_openvino import LABELS
from peers_tools import TOOLS

__all__ = ["write_page"]

_NAMES = {
    "resnet50": "ResNet-50",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "mobilenet_v2": "MobileNetV2",
    "vit_tiny": "ViT-tiny",
}
_HEAD = """# cfcam beside what one would take instead

`make bench` measures all of this anew and writes this page. One thread each, from a ready tensor to one map of the
top class at the input's size. Weights are random (EfficientNet-Lite0's ONNX files have its own). `cfcam, two-stage` is
`Explainer.explain` in its default form (clusters, guide, contrast), `INT8` the same with the product for CPUs, which
is for processors with integer kernels (VNNI) and slower than float32 on others; `cfcam, fused` is the
[fused file](../fused.md) of the form `cpu`, run by ONNX Runtime alone, `static` that of the form for every runtime.
`PyTorch, no map` is what the tools by PyTorch pay before they explain anything. All explain the same layer; in
EfficientNet-Lite0 theirs is the one before its activation, which is a single module that a hook cannot tell apart.
Times are CPU time, interleaved, the least of all rounds; how far A/A is from 1 says how far they can be believed.
"""


def write_page(results: dict[str, Any], page: Path) -> None:
    """Write the page, and beside the other pictures the plots."""
    images = page.parents[1] / "images"
    parts = [_HEAD]
    if "time" in results:
        said = [one for part in ("time", "openvino", "slow") for one in results.get(part, {"how": {}})["how"].values()]
        parts += ["\n## Time per map, over plain inference\n", _said(said), _times(results)]
        if results.get("openvino"):
            parts.append(_about_openvino(results["openvino"]["found"]))
        _plot_times(results["time"]["found"], images / "bench-time.png")
        parts.append("![The same as bars, on a logarithmic scale](../images/bench-time.png)\n")
    if "start" in results:
        parts += ["\n## From the start of a process to its first map\n", _said(results["start"]["how"].values())]
        parts.append(
            "A fresh process that imports, opens the model, makes one map and ends: CPU seconds and peak resident\n"
            "memory, the least of the processes. The tools by PyTorch make the network with random weights, and read\n"
            "no file.\n"
        )
        parts.append(_starts(results["start"]["found"]))
    if "sizes" in results:
        parts += [
            "\n## What is installed\n",
            _said(results["sizes"]["how"].values()),
            _sizes(results["sizes"]["found"]),
        ]
    if "growth" in results:
        parts += [
            "\n## How the cost grows\n",
            _said(results["growth"]["how"].values()),
            _growth(results["growth"]["found"]),
        ]
        _plot_growth(results["growth"]["found"], images / "bench-growth.png")
        parts.append("![The same as lines](../images/bench-growth.png)\n")
    page.write_text("\n".join(parts), "utf-8")


def _said(how: Iterable[str]) -> str:
    """Machine, versions and command; several where networks were measured apart."""
    return "\n".join(f"{one}.\n" for one in dict.fromkeys(how))


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _times(results: dict[str, Any]) -> str:
    found, slow, other = (results.get(part, {"found": {}})["found"] for part in ("time", "slow", "openvino"))
    networks = [network for network in _NAMES if network in found]
    rows = [
        ["plain, ms of CPU", *(f"{found[n]['plain_ms']:.1f}" for n in networks)],
        ["A/A", *(_ratio(found[n]["control"]) for n in networks)],
    ]
    for label in list(TOOLS)[1:]:
        cells = []
        for network in networks:
            one = found[network]
            if label in one["ratios"]:
                cells.append(_ratio(one["ratios"][label]))
                continue
            seconds = slow.get(network, {}).get(label)
            if isinstance(seconds, float):
                cells.append(f"{1000 * seconds / one['plain_ms']:.0f} (one run)")
            else:
                cells.append(seconds or one["refused"].get(label, "not measured"))
        rows.append([label, *cells])
    for label in LABELS if other else ():
        cells = []
        for network in networks:
            one = other.get(network, {"ratios": {}, "refused": {}})
            ratio = one["ratios"].get(label)
            cells.append(one["refused"].get(label, "not measured") if ratio is None else _ratio(ratio))
        rows.append([label, *cells])
    return _table(["", *(_NAMES[n] for n in networks)], rows)


def _about_openvino(found: dict[str, Any]) -> str:
    versions = ", ".join(dict.fromkeys(one["versions"] for one in found.values() if one["versions"]))
    return (
        f"OpenVINO XAI ({versions}) was measured in an environment of its own, beside plain inference by the\n"
        "same ONNX Runtime. ReciproCAM needs no gradients, runs what follows the layer once for each of its cells,\n"
        "and makes a map of every class in steps of 1/255.\n"
    )


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _starts(found: dict[str, Any]) -> str:
    networks = [network for network in _NAMES if network in found]
    heads = ["", *(f"{_NAMES[n]}, {what}" for n in networks for what in ("CPU s", "MiB"))]
    rows = []
    for label in next(iter(found.values())):
        cells = [label]
        for network in networks:
            one = found[network].get(label)
            cells += ["–", "–"] if one is None else [f"{one['cpu_s']:.2f}", f"{one['peak_mib']:.0f}"]
        rows.append(cells)
    return _table(heads, rows)


def _sizes(found: dict[str, float]) -> str:
    words = (
        "Each with all packages that it requires, PyTorch as its build for CPUs; the one for CUDA is far larger.\n\n"
    )
    return words + _table(["", "MiB"], [[name, f"{size:.0f}"] for name, size in found.items()])


def _growth(found: dict[str, Any]) -> str:
    from peers_growth import NETWORK

    tables = []
    for key, words, head in (
        ("channels", "The method alone (without an inference), 7 x 7 cells, over channels:", "channels"),
        ("maps", "The method alone, 256 channels, over the grid:", "cells across"),
        ("batch", f"`explain_batch` of {_NAMES[NETWORK]}, per image, over the batch:", "images"),
        ("classes", f"`explain_top` of {_NAMES[NETWORK]}, over classes from one inference:", "classes"),
    ):
        values = found[key]
        tables.append(words + "\n\n" + _table([head, *values], [["ms of CPU", *(f"{v:.1f}" for v in values.values())]]))
    sizes = found["sizes"]
    rows = [[what, *(f"{one[what]:.1f}" for one in sizes.values())] for what in ("plain", "explain")]
    rows.append(["ratio", *(f"{one['explain'] / one['plain']:.2f}" for one in sizes.values())])
    words = f"{_NAMES[NETWORK]} over the image's side in pixels, ms of CPU:\n\n"
    return "\n".join([*tables, words + _table(["", *sizes], rows)])


def _plot_times(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    networks = [network for network in _NAMES if network in found]
    labels = [label for label in list(TOOLS)[1:] if any(label in found[n]["ratios"] for n in networks)]
    figure = Figure(figsize=(9, 1 + 0.75 * len(labels)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(networks)
    for i, network in enumerate(networks):
        ratios = found[network]["ratios"]
        shown = [(k, ratios[label]) for k, label in enumerate(labels) if label in ratios]
        bars = axes.barh([k + i * height for k, _ in shown], [v for _, v in shown], height, label=_NAMES[network])
        axes.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axes.set_yticks([k + 0.4 - height / 2 for k in range(len(labels))], labels)
    axes.set_xscale("log")
    axes.set_xlim(0.9, 1.6 * max(one for n in networks for one in found[n]["ratios"].values()))
    ticks = (1, 2, 5, 10, 20)
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.set_xlabel("CPU time over plain inference by ONNX Runtime (1: the map is free)")
    axes.legend()
    figure.savefig(path, dpi=110)


def _plot_growth(found: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.8), layout="constrained")
    heads = {
        "channels": "channels",
        "maps": "cells across",
        "batch": "images",
        "classes": "classes",
        "sizes": "pixels across",
    }
    for (key, head), axes in zip(heads.items(), figure.subplots(1, len(heads)), strict=True):
        values = found[key]
        across = [int(name) for name in values]
        if key == "sizes":
            for what in ("plain", "explain"):
                axes.plot(across, [one[what] for one in values.values()], "o-", label=what)
            axes.legend()
        else:
            axes.plot(across, list(values.values()), "o-")
        axes.set_xlabel(head)
        axes.set_ylim(0, 1.1 * max(line.get_ydata().max() for line in axes.lines))  # type: ignore[union-attr]
    figure.axes[0].set_ylabel("ms of CPU")
    figure.savefig(path, dpi=110)
