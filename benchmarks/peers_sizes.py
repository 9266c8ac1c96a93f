"""What is installed for a tool: its package and all that this needs, in bytes."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

__all__ = ["installed_mib", "needed"]


def needed(names: list[str]) -> set[str]:
    """The packages called `names`, and those that they require on this machine; of "name[extra]" those of the extra."""
    found: set[str] = set()
    seen: set[str] = set()
    waiting = list(names)
    while waiting:
        text = waiting.pop()
        if text in seen:
            continue
        seen.add(text)
        asked = Requirement(text)
        try:
            package = distribution(asked.name)
        except PackageNotFoundError:
            continue  # another platform's, or one that is optional in fact
        found.add(re.sub(r"[-_.]+", "-", asked.name).lower())
        for line in package.requires or ():
            one = Requirement(line)
            extras = asked.extras or {""}
            if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(f"{one.name}[{','.join(sorted(one.extras))}]" if one.extras else one.name)
    return found


def installed_mib(names: list[str]) -> float:
    """MiB of the files of `needed` packages, without compiled Python."""
    total = 0
    for name in needed(names):
        for file in distribution(name).files or ():
            place = file.locate()
            if "__pycache__" not in file.parts and place.is_file():  # type: ignore[attr-defined] - it is a Path
                total += place.stat().st_size  # type: ignore[attr-defined]
    return total / 2**20
