"""How long `cfcam evaluate` takes, and its insertion and deletion curves against those of other packages.

Two parts. ``whole``: all cheap measures, six methods and five baselines on N photos (the photos of a folder, cut
differently each time they come round, so that none is a copy), with the highest memory after a fifth of
them and at the end. ``curves``: the same maps, the same steps, the same network, by
`cfcam.calibration.measures.insertion_deletion` on ONNX Runtime, by torch-cam's ``DeletionInsertionMetric`` and
by pytorch-grad-cam's ``RemoveMostRelevantFirst`` and ``RemoveLeastRelevantFirst`` over as many thresholds, on PyTorch;
interleaved, with the same number of threads, ratios within a round. Areas are printed where the package gives them.

    python benchmarks/evaluate.py PHOTOS              # both parts, EfficientNet-Lite0 of the [demo] extra
    python benchmarks/evaluate.py PHOTOS --part curves --rounds 7
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from cfcam.calibration.evaluate import evaluate, make_plan, make_table
from cfcam.calibration.measures import EngineAccess, fill_images, insertion_deletion
from cfcam.cli.demo import load_lite0
from cfcam.export import export_torch, preset
from cfcam.runtime import Explainer, find_images
from overhead import processor
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from torchvision_compat import import_torchvision

SIZE = 224


def variants(photos: list[Path], count: int, folder: Path) -> list[Path]:
    """`count` different photos: those of `photos`, cut by some more pixels in every round."""
    made = []
    for number in range(count):
        source, cut = photos[number % len(photos)], 2 * (number // len(photos))
        picture = Image.open(source).convert("RGB")
        path = folder / f"{number:04d}.jpg"
        picture.crop((cut, cut, picture.width - cut, picture.height - cut)).save(path, quality=92)
        made.append(path)
    return made


def megabytes() -> float:
    """Highest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def whole(model: Path, photos: list[Path], count: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Explainer(model, threads=1) as explainer:
        paths = variants(photos, count, Path(folder))
        plan = make_plan(explainer)
        memory: list[float] = []
        started, work = time.perf_counter(), time.process_time()
        found = evaluate(explainer, paths, plan, workers=workers, progress=lambda done, _: memory.append(megabytes()))
        measured, work = time.perf_counter() - started, time.process_time() - work
        make_table(found)
        total = time.perf_counter() - started
    print(
        f"| photos | methods | baselines | measures | at once | measuring, s | processor, s | with the table, s | "
        f"MB at {count // 5} | MB at {count} |"
    )
    print("|---" * 10 + "|")
    print(
        f"| {len(found.photos)} | {len(plan.methods)} | {len(plan.baselines)} | {', '.join(plan.measures)} | "
        f"{workers} | {measured:.1f} | {work:.1f} | {total:.1f} | {memory[count // 5 - 1]:.0f} | {memory[-1]:.0f} |\n"
    )


class _Given:
    """What torch-cam's metric takes for an extractor: a network and ready maps."""

    _hooks_off = staticmethod(nullcontext)

    def __init__(self, model: Any, maps: np.ndarray) -> None:
        self.model, self._maps = model, maps

    def __call__(self, *_: Any, **__: Any) -> list[Any]:
        return [torch.from_numpy(self._maps)]

    def fuse_cams(self, cams: list[Any]) -> Any:
        return cams[0]


def _over_mean(image: Any, keep: Any) -> Any:
    return image * keep + image.mean((1, 2), keepdim=True) * (1 - keep)


def curves(model: Path, net: Any, photos: list[Path], threads: int, rounds: int, steps: int) -> None:
    import_torchvision()
    import torchcam.metrics
    from pytorch_grad_cam.metrics.perturbation_confidence import (
        AveragerAcrossThresholds,
        PerturbationConfidenceMetric,
        RemoveLeastRelevantFirst,
        RemoveMostRelevantFirst,
    )
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputSoftmaxTarget

    torch.set_num_threads(threads)
    with Explainer(model, threads=threads) as explainer:
        access = EngineAccess(explainer, "gradcam")
        x, _ = access.load(photos)
        classes = access.predict(x).argmax(axis=1).astype(np.int64)
        maps = access.explain(x, classes)
        under = torch.from_numpy(fill_images(x, "blur"))
        softmax = torch.nn.Sequential(net, torch.nn.Softmax(-1)).eval()
        results: dict[str, Any] = {}

        def ours() -> None:
            found = insertion_deletion(access.predict, x, classes, maps, steps=steps, batch=8)
            results["cfcam"] = found.area(found.insertion).mean(), found.area(found.deletion).mean()

        def torch_cam() -> None:
            metric = torchcam.metrics.DeletionInsertionMetric(_Given(softmax, maps), steps=steps, baseline=under)
            metric.update(torch.from_numpy(x), classes.tolist())
            summary = metric.summary()
            results["torch-cam"] = summary["insertion_auc"], summary["deletion_auc"]

        def grad_cam() -> None:
            percentiles = [100 * step / steps for step in range(1, steps)]
            targets = [ClassifierOutputSoftmaxTarget(int(index)) for index in classes]
            for order in (RemoveMostRelevantFirst, RemoveLeastRelevantFirst):
                metric = AveragerAcrossThresholds(
                    lambda level, order=order: PerturbationConfidenceMetric(order(level, _over_mean)), percentiles
                )
                metric(torch.from_numpy(x), maps, targets, net)

        contenders: dict[str, Callable[[], None]] = {
            "cfcam": ours,
            "torch-cam": torch_cam,
            "pytorch-grad-cam": grad_cam,
        }
        for run in contenders.values():
            run()
        times: dict[str, list[float]] = {name: [] for name in contenders}
        random = np.random.default_rng(0)
        for _ in range(rounds):
            for name in random.permutation(list(contenders)):
                started = time.perf_counter()
                contenders[name]()
                times[name].append(time.perf_counter() - started)
    print(f"Insertion and deletion, {len(photos)} photos, {steps} steps, {threads} threads, {rounds} rounds:\n")
    print("| package | ms per photo, median | times cfcam's, median (least to most) | insertion | deletion |")
    print("|---|---|---|---|---|")
    for name, each in times.items():
        ratios = [a / b for a, b in zip(each, times["cfcam"], strict=True)]
        areas = " | ".join(f"{value:.4f}" for value in results.get(name, ())) or "- | -"
        print(
            f"| {name} | {1000 * statistics.median(each) / len(photos):.0f} | {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) | {areas} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="a folder of photos")
    parser.add_argument("--model", type=Path, help="EfficientNet-Lite0 exported before")
    parser.add_argument("--part", choices=["whole", "curves"])
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=16)
    arguments = parser.parse_args()
    print(f"{processor()}, {os.cpu_count()} cores, onnxruntime {onnxruntime.__version__}, torch {torch.__version__}")
    print(f"`python benchmarks/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, {time.strftime('%Y-%m-%d')}\n")
    photos = find_images([arguments.photos])
    net = load_lite0()
    with tempfile.TemporaryDirectory() as folder:
        model = arguments.model or Path(folder) / "lite0.cam.onnx"
        if not arguments.model:
            export_torch(net, SIZE, model, preprocessing=preset("lite"))
        if arguments.part != "curves":
            whole(model, photos, arguments.count, arguments.threads)
        if arguments.part != "whole":
            curves(model, net, photos[:4], arguments.threads, arguments.rounds, arguments.steps)


if __name__ == "__main__":
    main()
