"""``cfcam explain``: maps for many images, as pictures, arrays or JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .console import DONE, DONE_IN_PART, NOT_DONE, note, print_json, progress, stderr
from .explain_steps import explained_in_steps
from .explain_tables import MUCH, print_results, result_entry
from .options import AllowFallback, Json, MaxPixels, ProductFile, ProductProvider, Threads, json_object
from .sources import find_each, report_failures

if TYPE_CHECKING:
    from ..runtime.explainer import Explainer
    from ..runtime.sess import Sess
    from ..runtime.smoothing import Smoothing

__all__ = ["SCHEMA", "explain"]

#: Name and version of the JSON document.
SCHEMA = "cfcam.explain/1"

#: What is said of a product that the gate has not passed.
_NOT_PASSED = {
    "failed": "the gate found its explanations too far from the reference",
    "undecided": "whether its explanations agree with the reference is undecided: the gate had too few photos",
}


def explain(
    model: ProductFile,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE", help="Images, folders, or patterns ('*.jpg').")],
    target: Annotated[
        list[str] | None,
        typer.Option(
            "--target",
            "-t",
            metavar="INDEX|LABEL",
            help="Class to explain (default: top; -2: the second best); of a regression + or -, or age+, 0-. "
            "Repeatable.",
        ),
    ] = None,
    maps: Annotated[
        int | None, typer.Option("--maps", metavar="K", min=1, help="Explain the K best classes of each image.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--contrast-with",
            metavar="INDEX|LABEL",
            help="Explain the class against this one, by the difference of their logits; -2 for the second best.",
        ),
    ] = None,
    side_by_side: Annotated[
        bool,
        typer.Option("--side-by-side", help="Draw all maps of a photo in one picture, also where -o is a folder."),
    ] = False,
    method: Annotated[
        str | None, typer.Option("--method", "-m", metavar="NAME", help="cfcam, gradcam, layercam, finercam, ...")
    ] = None,
    settings: Annotated[
        str | None, typer.Option("--settings", metavar="JSON", help="The method's settings as a JSON object.")
    ] = None,
    contrast: Annotated[
        float | None,
        typer.Option(
            "--contrast",
            metavar="X",
            help="How much the evidence for other classes counts against, 0 to 1 (default: the file's, or 0.3); 0 "
            "explains the logit alone.",
        ),
    ] = None,
    use_layer: Annotated[
        str | None,
        typer.Option("--use-layer", metavar="NAME", help="Of a file with several target layers, take this one alone."),
    ] = None,
    fusion: Annotated[
        Literal["gate", "product", "mean", "max", "guided"] | None,
        typer.Option("--layers-fusion", help="How the maps of several target layers become one (default: the file's)."),
    ] = None,
    smooth: Annotated[
        int | None, typer.Option("--smooth", metavar="N", min=1, help="Take the mean map of N noisy copies.")
    ] = None,
    smooth_noise: Annotated[
        float | None,
        typer.Option(
            "--smooth-noise", metavar="X", help="Their noise, as a share of the image's range (default: 0.1)."
        ),
    ] = None,
    sess: Annotated[
        bool, typer.Option("--sess", help="Put the maps of windows that slide over the enlarged image together (SESS).")
    ] = False,
    sess_scales: Annotated[
        int | None,
        typer.Option("--sess-scales", metavar="N", min=1, max=32, help="Of how many enlargements (default: 12)."),
    ] = None,
    photo_range: Annotated[
        str | None,
        typer.Option(
            "--photo-range",
            metavar="LOW:HIGH",
            help="Black and full brightness of photos of more than 8 bits and of floats (default: the file's).",
        ),
    ] = None,
    show_channels: Annotated[
        str | None,
        typer.Option("--show-channels", metavar="3,2,1", help="Channels, from 1, that the overlay is drawn on."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PNG|NPY|DIR", help="Overlay (.png, .jpg), raw map (.npy), or folder."),
    ] = None,
    kind: Annotated[
        Literal["png", "jpg", "npy"], typer.Option("--format", help="What is written into a folder.")
    ] = "png",
    json: Json = False,
    max_pixels: MaxPixels = None,
    top: Annotated[
        int,
        typer.Option(
            "--top",
            metavar="K",
            min=0,
            help="Also list the K best classes of each image; with --side-by-side, draw their maps.",
        ),
    ] = 0,
    batch: Annotated[int, typer.Option("--batch", metavar="N", min=1, help="Images per inference.")] = 8,
    provider: ProductProvider = None,
    allow_fallback: AllowFallback = False,
    threads: Threads = None,
) -> None:
    """Explain what a model saw in images.

    Without -o nothing is written; the table (or --json) has the class, its probability and where the map peaks.
    """
    from ..runtime.contrast import without_contrast
    from ..runtime.explainer import Explainer
    from ..runtime.photos.levels import parse_photo_range
    from .outputs import plan_outputs

    if against is not None and contrast:
        raise typer.BadParameter(
            "--contrast: counts all other classes against the one that is explained, and --contrast-with a single one: "
            "leave one of them out"
        )
    if side_by_side and top and not target and maps is None:
        maps = top
    if maps is not None and target:
        raise typer.BadParameter("--maps: takes the best classes, and --target names them: leave one of them out")
    options = json_object(settings, "--settings")
    smoothing, sliding = _smoothing(smooth, smooth_noise), _sess(sess, sess_scales, smooth)
    with Explainer(
        model,
        provider=provider,
        allow_fallback=allow_fallback or None,
        threads=threads,
        probe_batch=batch,
        layer=use_layer,
        fusion=fusion,
        photo_range=None if photo_range is None else parse_photo_range(photo_range),
        show_channels=None if show_channels is None else _numbers(show_channels),
    ) as explainer:
        if explainer.manifest is not None and explainer.manifest.passed is False:
            note(f"cfcam: warning: {model}: {_NOT_PASSED[explainer.manifest.verdict or 'failed']}", stderr())
        if maps is not None and maps > 1 and explainer.spec.fixed_target is not None:
            raise typer.BadParameter(
                "--maps, and --top with --side-by-side: show several classes, and the file explains one alone: leave "
                "out --maps, or --side-by-side beside --top, or export the model without --fixed-target"
            )
        chosen, used = explainer.resolve_method(method, options)  # a wrong one is known before the first image
        if contrast is not None:
            options = _with_contrast(explainer, chosen.name, used, contrast)
            used = explainer.resolve_method(chosen.name, options)[1]
        if against is not None:
            used = without_contrast(chosen, used)
        if fusion is not None and chosen.fusion is not None:
            raise typer.BadParameter(
                f"--layers-fusion: method '{chosen.name}' has a way of its own to fuse layers; leave the option out"
            )
        targets = _targets(explainer, target, maps)
        results: list[dict[str, Any]] = []
        left_out: dict[Path, float] = {}
        found, errors = find_each(images)
        named = bool(target) or maps is not None
        plan = plan_outputs(output, found, targets, by_class=named, suffix=f".{kind}", together=side_by_side)
        by_image = plan.together or against is not None or min(targets) < -1
        with progress() as display:
            task = display.add_task("explaining", total=len(found) * len(targets))
            console = display.console
            probe = display.add_task(chosen.name, total=None) if chosen.kind == "probe" or sliding is not None else None

            def watch(done: int, total: int) -> None:
                if probe is not None:
                    display.update(probe, completed=done, total=total)

            if not json:
                report_failures(errors, console)
            how = {"method": method, "settings": options, "smooth": smoothing, "sess": sliding, "progress": watch}
            how["against"] = against
            for attempted, done, failed in explained_in_steps(explainer, found, targets, how, batch, by_image=by_image):
                plan.save_together(done)
                for explanation, image, asked in done:
                    left_out[image] = explanation.frame.left_out
                    place = plan.path(image, asked)
                    if place is not None and not plan.together:
                        explanation.save(place)
                    results.append(result_entry(explanation, place, top, explainer.spec.output))
                errors += failed
                if not json:
                    report_failures(failed, console)
                display.advance(task, attempted)
        if json:
            document = {**_document(explainer), "method": chosen.name, "settings": {} if used is None else asdict(used)}
            print_json({**document, "results": results, "errors": errors})
        elif results:
            print_results(results)
        if results and (maps is not None or against is not None):
            _say_how_often(explainer, targets, against)
    if not json:
        _say_where_unguided(results)
    _say_what_is_left_out(left_out)
    if not json and output is None and results:
        note("nothing was written: add -o FILE.png, FILE.npy or FOLDER", stderr())
    raise typer.Exit(DONE if not errors else DONE_IN_PART if results else NOT_DONE)


def _targets(explainer: Explainer, named: list[str] | None, maps: int | None) -> list[int]:
    """The classes that are asked for, each once; -1, -2, ... for the best ones. Raises `TargetError`."""
    from ..runtime.targets import resolve_ranked, top_ranks

    if maps is not None:
        return top_ranks(maps, explainer.spec.output)
    return list(dict.fromkeys(resolve_ranked(text, explainer.spec.output) for text in named or ["-1"]))


def _say_how_often(explainer: Explainer, targets: Sequence[int], against: str | None) -> None:
    """A note where a photo takes more than one inference, and what would need one."""
    from ..runtime.contract.columns_spec import MOST_RANKS
    from ..runtime.targets import inferences, resolve_ranked

    asked = [*targets, *([] if against is None else [resolve_ranked(against, explainer.spec.output)])]
    count = inferences(explainer.spec, asked)
    if count == 1:
        return
    columns = explainer.spec.columns
    if columns is not None and columns.count is None:
        why = f"the file knows the order of the {columns.ranks} best classes alone, and one finds the others"
    else:
        why = f"the file explains {'one class' if columns is None else f'{columns.count} classes'} at a time"
        if len(asked) <= min(MOST_RANKS, explainer.spec.output.classes):
            # A number, because 'free' is refused for a fixed batch and for TensorRT.
            why += f"; exported with --classes-per-image {len(asked)} it would take one"
    note(f"cfcam: note: each photo took {count} inferences, because {why}", stderr())


def _with_contrast(explainer: Explainer, method: str, settings: Any, contrast: float) -> dict[str, Any]:
    """The settings with that contrast, where the method knows one and the file has what it needs."""
    values = {} if settings is None else asdict(settings)
    if "contrast" not in values:
        other = "take" if explainer.spec.fused is None else "export the model without --fused and take"
        raise typer.BadParameter(f"--contrast: method '{method}' has none; leave it out, or {other} --method cfcam")
    if contrast and explainer.spec.layer.rivals is None:
        raise typer.BadParameter(
            "--contrast: the file does not have the rivals' gradient, which the exporter writes where the head behind "
            "the layer is linear and the classes exclude each other; only --contrast 0 is possible"
        )
    return {**values, "contrast": contrast}


def _smoothing(copies: int | None, noise: float | None) -> Smoothing | None:
    from ..runtime.smoothing import Smoothing

    if copies is None:
        if noise is not None:
            raise typer.BadParameter("--smooth-noise: says how noisy the copies of --smooth are; give that too")
        return None
    return Smoothing(copies=copies) if noise is None else Smoothing(copies=copies, noise=noise)


def _sess(asked: bool, scales: int | None, smooth: int | None) -> Sess | None:
    from ..runtime.sess import Sess

    if not asked:
        if scales is not None:
            raise typer.BadParameter("--sess-scales: says how often --sess enlarges the image; give that too")
        return None
    if smooth is not None:
        raise typer.BadParameter("--sess: cannot be combined with --smooth; leave one of them out")
    return Sess() if scales is None else Sess(scales=scales)


def _numbers(text: str) -> tuple[int, ...]:
    """The channels of ``--show-channels``. Raises a usage error."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"--show-channels: expected numbers of channels such as 3,2,1, got '{text}'")
    return tuple(map(int, parts))


def _say_where_unguided(results: Sequence[dict[str, Any]]) -> None:
    """One note about all maps that the file's detail layer could not sharpen."""
    reasons = {one["image"]: one["form"]["unguided"] for one in results if one.get("form", {}).get("unguided")}
    if reasons:
        image, reason = next(iter(reasons.items()))
        count = len({one["image"] for one in results})
        note(
            f"cfcam: note: {len(reasons)} of {count} photos: the maps come from the target layer alone, not guided by "
            f"the detail layer ({image}: {reason})",
            stderr(),
        )


def _say_what_is_left_out(shares: dict[Path, float]) -> None:
    """One warning about all photos of which a crop leaves out much. shares: of each photo's area."""
    cropped = {path: share for path, share in shares.items() if share > MUCH}
    if cropped:
        worst = max(cropped, key=lambda path: cropped[path])
        note(
            f"cfcam: warning: {len(cropped)} of {len(shares)} photos: the preprocessing leaves out more than a third "
            f"({cropped[worst]:.0%} of {worst}), about which the map says nothing; a file that was exported with "
            "--resize pad, stretch or fit shows the model the whole photo",
            stderr(),
        )


def _document(explainer: Explainer) -> dict[str, Any]:
    """What the JSON document says of the file."""
    from ..runtime.contract.modelfile import file_sha256

    spec, manifest = explainer.spec, explainer.manifest
    return {
        "schema": SCHEMA,
        "model": {
            "path": str(explainer.path),
            "sha256": file_sha256(explainer.path),
            "layer": spec.layer.name,
            **({"layers": [layer.name for layer in spec.layers]} if len(spec.layers) > 1 else {}),
            "spec_version": spec.schema,
            **(
                {}
                if manifest is None
                else {"precision": manifest.precision, "gate_passed": manifest.passed, "gate": manifest.verdict}
            ),
        },
        "provider": explainer.provider,
    }
