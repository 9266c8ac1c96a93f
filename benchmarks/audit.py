"""What an audit costs, what it survives, and how it would scale. Needs Linux.

    OMP_NUM_THREADS=1 python benchmarks/audit.py cost model.cam.onnx PHOTOS...        # all rungs, and each of them
    OMP_NUM_THREADS=1 python benchmarks/audit.py budgets model.cam.onnx PHOTOS...     # 20, 40 and 80 ms, planned
    OMP_NUM_THREADS=1 python benchmarks/audit.py blind model.cam.onnx PHOTOS...       # class-blind maps, by method
    OMP_NUM_THREADS=1 python benchmarks/audit.py kills model.cam.onnx PHOTOS... --count 50
    OMP_NUM_THREADS=1 python benchmarks/audit.py cores model.cam.onnx PHOTOS...       # two workers against one
    OMP_NUM_THREADS=1 python benchmarks/audit.py memory model.cam.onnx PHOTOS... --photos 10000
    OMP_NUM_THREADS=1 python benchmarks/audit.py report model.cam.onnx PHOTOS... --rows 10000
    OMP_NUM_THREADS=1 python benchmarks/audit.py simulate model.cam.onnx PHOTOS...    # workers that nobody has here

PHOTOS are folders, files or patterns. `--photos N` cuts N different photos out of them, half of them mirrored: as JPEG
in a folder for scratch files, or, for `memory`, as they are asked for. `blind` takes PHOTOS as they are. Milliseconds
are processor time unless their name says wall. Each command prints one JSON document.
"""

from __future__ import annotations

import argparse
import heapq
import io
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cfcam.calibration.audit import AuditError, AuditOptions, audit
from cfcam.calibration.audit.parts import iter_rows, read_parts, write_part
from cfcam.calibration.audit.plan import USUAL, read_plan
from cfcam.calibration.audit.planning import asked_plan
from cfcam.calibration.audit.report import pick_cases, render_report
from cfcam.calibration.audit.row import FIGURES, Row
from cfcam.calibration.audit.slices import table
from cfcam.calibration.audit.sources import Photo
from cfcam.calibration.audit.summary import summarise
from cfcam.calibration.audit.workers import Job, opened
from cfcam.runtime.photos.images import find_images
from PIL import Image, ImageOps

#: Photos that a worker of the simulation is given at a time, as by Ray.
_CHUNK = 16


@dataclass
class Cuts:
    """`count` different photos, made as they are asked for: JPEG of 500 x 375 pixels, cut out of `paths`."""

    paths: Sequence[Path]
    count: int
    remarks: Sequence[str] = ()

    def names(self) -> list[str]:
        return [f"{number:06}.jpg" for number in range(self.count)]

    def photos(self, names: Collection[str]) -> Iterator[Photo]:
        originals = [Image.open(path).convert("RGB") for path in self.paths]
        for number, name in enumerate(self.names()):
            if name in names:
                yield Photo(name, self._cut(originals[number % len(originals)], random.Random(number)))

    @staticmethod
    def _cut(image: Image.Image, rng: random.Random) -> bytes:
        side = rng.uniform(0.5, 1.0)
        width, height = (int(side * length) for length in image.size)
        left, top = rng.randrange(image.width - width + 1), rng.randrange(image.height - height + 1)
        cut = image.crop((left, top, left + width, top + height)).resize((500, 375))
        data = io.BytesIO()
        (ImageOps.mirror(cut) if rng.random() < 0.5 else cut).save(data, "JPEG", quality=90)
        return data.getvalue()


def make_photos(sources: Sequence[str], count: int, folder: Path) -> list[Path]:
    """`Cuts` as files in `folder`."""
    folder.mkdir()
    cuts = Cuts(find_images(sources), count)
    return [photo.as_file(folder / photo.name) for photo in cuts.photos(frozenset(cuts.names()))]


def cpu(work: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What `work` returns, and its seconds of processor time."""
    started = time.process_time()
    return work(*arguments), time.process_time() - started


def cost(model: Path, photos: list[Path], folder: Path) -> dict[str, Any]:
    """All rungs without a budget; and up to and with each of them, the least of three times of each photo."""
    audit(model, photos, folder / "all")
    rows = read_parts(folder / "all" / "parts")
    ms = np.array([row["ms"] for row in rows])
    size = sum(path.stat().st_size for path in (folder / "all" / "parts").iterdir())
    up_to: dict[str, float] = {}
    with opened(Job(model, read_plan(folder / "all" / "plan.json"))) as auditor:
        for place, rung in enumerate(USUAL):
            some = USUAL[: place + 1]
            least = [min(auditor.row(photo, some)["ms"] for _ in range(3)) for photo in photos]
            up_to[rung] = float(np.median(least))
    return {
        "photos": len(rows),
        "all_rungs_ms": {name: float(np.quantile(ms, q)) for name, q in (("median", 0.5), ("p99", 0.99))},
        "up_to_rung_ms": up_to,
        "photos_per_second_per_core": 1000 / float(ms.mean()),
        "bytes_per_photo": size / len(rows),
    }


def budgets(model: Path, photos: list[Path], folder: Path) -> dict[str, Any]:
    """Planned budgets of 20, 40 and 80 ms: which rungs, and how many photos are over."""
    found: dict[str, Any] = {"photos": len(photos)}
    for budget in (20, 40, 80):
        try:
            document = audit(model, photos, folder / f"b{budget}", AuditOptions(budget_ms=budget))
        except AuditError as error:
            found[f"budget_{budget}"] = str(error)
            continue
        latency = document["latency"]
        found[f"budget_{budget}"] = {
            "rungs": document["plan"]["rungs"],
            **{name: latency[name] for name in ("p50_ms", "p99_ms", "over", "over_rate")},
        }
    return found


def blind(model: Path, photos: list[Path], folder: Path) -> dict[str, Any]:
    """How many photos each method's maps are found class-blind on."""
    methods = ("gradcam", "eigencam", "cfcam")
    return {
        method: audit(model, photos, folder / method, AuditOptions(method=method))["findings"]["class_blind"]
        for method in methods
    }


def kills(model: Path, photos: list[Path], folder: Path, count: int) -> dict[str, Any]:
    """Audits with two workers, of which the driver or a worker is killed with -9 at random moments, until done."""
    rng = random.Random(0)
    audit(model, photos[:4], folder / "plan")
    command = [sys.executable, "-m", "cfcam.cli", "audit", "run", str(model), "--images", str(photos[0].parent)]
    command += ["--plan", str(folder / "plan" / "plan.json"), "--workers", "2", "-o"]
    killed: Counter[str] = Counter()
    lost = twice = audits = starts = 0
    while sum(killed.values()) < count:
        audits += 1
        out = folder / f"k{audits}"
        for _ in range(1000):
            starts += 1
            process = subprocess.Popen([*command, str(out)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while process.poll() is None:
                deadline = time.monotonic() + rng.uniform(0, 8)
                while process.poll() is None and (time.monotonic() < deadline or not _children(process.pid)):
                    time.sleep(0.02)
                if process.poll() is not None or sum(killed.values()) == count:
                    break
                driver, children = rng.random() < 0.5, _children(process.pid)
                killed["driver" if driver or not children else "worker"] += 1
                os.kill(process.pid if driver or not children else rng.choice(children), signal.SIGKILL)
            if process.wait() == 0:
                break
        images = Counter(row["image"] for row in read_parts(out / "parts"))  # which refuses what is there twice
        lost += sum(str(photo) not in images for photo in photos)
        twice += sum(number > 1 for number in images.values())
    return {
        "kills": dict(killed),
        "audits": audits,
        "starts": starts,
        "photos_each": len(photos),
        "lost": lost,
        "twice": twice,
    }


def _children(pid: int) -> list[int]:
    """Worker processes: not the one that tracks shared memory."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            found += [int(stat.parent.name)] if parent == pid and b"spawn_main" in _command(stat) else []
        except OSError:  # it has ended
            continue
    return found


def _command(stat: Path) -> bytes:
    return stat.with_name("cmdline").read_bytes()


def cores(model: Path, photos: list[Path], folder: Path) -> dict[str, Any]:
    """Seconds of two workers against one, without what starting them takes; the best of three each."""
    audit(model, photos[:4], folder / "plan")
    seconds = {}
    for workers in (1, 2):
        times = []
        for turn in range(3):
            stamps: list[float] = []
            options = AuditOptions(plan=folder / "plan" / "plan.json", workers=workers)
            out = folder / f"w{workers}-{turn}"
            audit(model, photos, out, options, lambda *_, s=stamps: s.append(time.perf_counter()))
            times.append((stamps[-1] - stamps[1 + len(photos) // 4]) / (len(photos) * 3 / 4))
        seconds[workers] = min(times)
    return {"wall_ms_per_photo": {n: 1000 * s for n, s in seconds.items()}, "two_over_one": seconds[1] / seconds[2]}


def memory(model: Path, sources: Sequence[str], folder: Path, number: int) -> dict[str, Any]:
    """One audit of `number` photos with two workers: seconds, and megabytes of all its processes on the way."""
    seen: dict[int, dict[str, float]] = {}
    started = time.monotonic()

    def progress(done: int, total: int) -> None:
        if done and done % max(1, total // 10) == 0:
            pids = [os.getpid(), *_children(os.getpid())]
            mb = [_resident_mb(pid) for pid in pids]
            seen[done] = {"wall_s": round(time.monotonic() - started, 1), "driver_mb": mb[0], "workers_mb": sum(mb[1:])}

    cuts = Cuts(find_images(sources), number)
    document = audit(model, [cuts], folder / "a", AuditOptions(workers=2), progress)
    wall = time.monotonic() - started
    last = max(seen)
    return {
        "photos": document["counts"]["photos"],
        "errors": document["counts"]["errors"],
        "wall_s": wall,
        "wall_s_after_the_last_photo": wall - seen[last]["wall_s"],
        "at": seen,
        "grew_mb": {name: seen[last][name] - seen[min(seen)][name] for name in ("driver_mb", "workers_mb")},
    }


def _resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def report(model: Path, photos: list[Path], folder: Path, count: int) -> dict[str, Any]:
    """What comes after the last photo: summary, slices and page of `count` rows, and how memory grows with them."""
    audit(model, photos, folder / "a")
    rows = read_parts(folder / "a" / "parts")
    return {f"{number} rows": _report(model, rows, folder, photos[0], number) for number in (count // 10, count)}


def _report(model: Path, rows: list[Row], folder: Path, photo: Path, number: int) -> dict[str, Any]:
    parts, about = folder / f"parts{number}", json.loads((folder / "a" / "summary.json").read_text())["model"]
    copies = (
        row | {"image": f"{row['image']}-{n}", "sha256": f"{n:064}", "slice": json.dumps({"light": str(n % 5)})}
        for n, row in zip(range(number), itertools.cycle(rows), strict=False)
    )
    writing = 0.0
    while batch := list(itertools.islice(copies, 256)):
        writing += cpu(write_part, parts, batch)[1]
    _, _, view = asked_plan(model, AuditOptions())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    plan, seconds = read_plan(folder / "a" / "plan.json"), {}
    summary, seconds["summary"] = cpu(lambda: summarise(iter_rows(parts, FIGURES), plan, about))
    slices, seconds["slices"] = cpu(lambda: table(iter_rows(parts, FIGURES)))
    cases, seconds["cases"] = cpu(lambda: pick_cases(iter_rows(parts, FIGURES)))
    names = {row["image"] for case in cases for row in case}
    whole, seconds["their maps"] = cpu(lambda: {row["image"]: row for row in iter_rows(parts, only=names)})
    worst, others = ([whole[row["image"]] for row in case] for case in cases)
    shown = {name: Photo.of_file(photo) for name in names}
    _, seconds["page"] = cpu(lambda: render_report(summary | {"slices": slices}, worst, others, view, shown))
    return {
        "seconds": seconds,
        "seconds_together": sum(seconds.values()),
        "write_ms_per_row": 1000 * writing / number,
        "memory_grew_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
    }


def simulate(model: Path, photos: list[Path], folder: Path) -> dict[str, Any]:
    """Makespans of more workers than there are here, from what was measured: times per photo, opening, the driver."""
    audit(model, photos, folder / "a")
    rows = read_parts(folder / "a" / "parts")
    seconds = [row["ms"] / 1000 for row in rows]
    job = Job(model, read_plan(folder / "a" / "plan.json"))

    def start() -> None:
        with opened(job):
            pass

    opening = cpu(start)[1]
    copies = [row | {"image": str(n)} for n, row in zip(range(256), itertools.cycle(rows), strict=False)]
    driver = cpu(write_part, folder / "p", copies)[1] / len(copies)
    hashing = cpu(lambda: [Photo.of_file(photo).sha256() for photo in photos])[1] / len(photos)
    rng = random.Random(0)
    found: dict[str, Any] = {
        "measured": {
            "mean_ms": 1000 * float(np.mean(seconds)),
            "opening_s": opening,
            "driver_ms_per_row": 1000 * driver,
            "hash_ms_per_photo_when_it_goes_on": 1000 * hashing,
        }
    }
    for workers, number in itertools.product((1, 10, 100, 1000), (10_000, 1_000_000)):
        free = [opening] * workers
        heapq.heapify(free)
        written = 0.0
        for start_of in range(0, number, _CHUNK):
            size = min(_CHUNK, number - start_of)
            end = heapq.heappop(free) + sum(rng.choices(seconds, k=size))
            heapq.heappush(free, end)
            written = max(written, end) + size * driver  # one process writes, in the order of ends
        makespan = max(max(free), written)
        found[f"{number} photos, {workers} workers"] = {
            "hours": makespan / 3600,
            "efficiency": number * float(np.mean(seconds)) / makespan / workers,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = ("cost", "budgets", "blind", "kills", "cores", "memory", "report", "simulate")
    parser.add_argument("command", choices=names)
    parser.add_argument("model", type=Path)
    parser.add_argument("sources", nargs="+", metavar="PHOTOS")
    parser.add_argument("--photos", type=int, help="how many are cut (120; memory: 10,000)")
    parser.add_argument("--count", type=int, default=50, help="kills")
    parser.add_argument("--rows", type=int, default=10_000)
    given = parser.parse_args()
    work: Callable[..., dict[str, Any]] = globals()[given.command]
    with tempfile.TemporaryDirectory(prefix="audit-") as scratch:
        folder = Path(scratch)
        if given.command == "memory":
            found = memory(given.model, given.sources, folder, given.photos or 10_000)
        elif given.command == "blind":
            found = blind(given.model, find_images(given.sources), folder)
        else:
            photos = make_photos(given.sources, given.photos or 120, folder / "photos")
            more = {"kills": (given.count,), "report": (given.rows,)}.get(given.command, ())
            found = work(given.model, photos, folder, *more)
        print(json.dumps({given.command: found}, indent=1))


if __name__ == "__main__":
    main()
