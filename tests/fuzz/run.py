"""Fuzzing by command: ``make fuzz``, with options in ``FUZZ``.

Every case is a wrong input of one kind: it must be answered, or refused by an error of cfcam's own in one clean line.
Of the kind ``semantics`` it is a random classifier, whose explanation must be what numpy says, if it is not refused;
how often it is refused, and in which words, is listed. A case is known by its seed, which is printed where it fails,
with the command that runs it again. A run that was stopped goes on with ``--first``.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from .calls import call
from .documents import boxes, labels, manifest, result, spec, yaml
from .messages import message
from .photos import photo
from .requests import request
from .semantics import semantics

#: Kind -> its case, and how many of them are run.
KINDS = {
    "photo": (photo, 3000),
    "spec": (spec, 4000),
    "manifest": (manifest, 2000),
    "yaml": (yaml, 2000),
    "labels": (labels, 1500),
    "boxes": (boxes, 2500),
    "result": (result, 500),
    "call": (call, 4000),
    "request": (request, 10_000),
    "message": (message, 4000),
    "semantics": (semantics, 2000),
}


def run_case(kind: str, seed: str, folder: Path) -> str | None:
    """One case; raises whatever it should not. Some kinds return in which words something ordinary was refused."""
    return KINDS[kind][0](random.Random(f"{kind}:{seed}"), folder)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", default="0", help="another one gives other cases")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times as many cases")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="these kinds alone")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="leave out the cases before the Nth, from 0")
    parser.add_argument("--only", metavar="KIND:SEED", help="one case, as a failure prints it")
    asked = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        if asked.only:
            kind, _, seed = asked.only.partition(":")
            run_case(kind, seed, Path(name))
            return 0
        for kind in asked.kind or KINDS:
            count, started = max(1, round(KINDS[kind][1] * asked.scale)), time.monotonic()
            wrong, refused = 0, Counter[str]()
            for number in range(asked.first, count):
                seed = f"{asked.seed}.{number}"
                try:
                    refused.update(filter(None, [run_case(kind, seed, Path(name))]))
                except Exception:
                    wrong += 1
                    print(f"\nFAILED: make fuzz FUZZ='--only {kind}:{seed}'", file=sys.stderr)
                    if wrong <= 3:
                        traceback.print_exc()
                if sys.stderr.isatty() and number % 50 == 0:
                    print(f"\r{kind}: {number} of {count}", end="", file=sys.stderr)
            end = "\r" if sys.stderr.isatty() else ""
            ran = max(0, count - asked.first)
            print(f"{end}{kind}: {ran} cases in {time.monotonic() - started:.0f} s, {wrong} failed", flush=True)
            for sentence, times in refused.most_common():
                print(f"  refused {times} times: {sentence}", flush=True)
            failed += wrong
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
