"""``cfcam audit profile``: what is usual in an audit, for later audits and for monitors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import note, print_json, print_rows
from ..options import Json, check_name, needing

__all__ = ["profile"]


def profile(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Folder of an audit of photos that are as they should.")],
    out: Annotated[str, typer.Option("--out", "-o", metavar="profile.json", help="Where the profile goes.")],
    json: Json = False,
) -> None:
    """Make a reference profile: for each column its median, and how far photos usually lie from it.

    `cfcam audit run --reference` and monitors compare photos with it. It holds no photos and no names.
    """
    check_name(out, "--out", ".json")
    with needing("a profile", "audit", "pyarrow"):
        from ...calibration.audit.parts import iter_rows
        from ...calibration.audit.plan import read_plan
        from ...calibration.audit.profile import make_profile, to_document, write_profile
        from ...calibration.audit.row import FIGURES
    plan = read_plan(Path(folder) / "plan.json")
    found = make_profile(iter_rows(Path(folder) / "parts", FIGURES), plan.model_sha256, plan.method)
    write_profile(out, found)
    if json:
        print_json(to_document(found))
        return
    rows = [
        (name, str(one.count), f"{one.centre:.3f}", f"{one.below:.3f}", f"{one.above:.3f}")
        for name, one in found.columns.items()
    ]
    heads = ("column", "photos", "median", "below", "above")
    print_rows(heads, rows, right=heads[1:])
    note(f"written: {out}, of {found.photos} photos")
