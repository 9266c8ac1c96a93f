"""The result of ``cfcam bench`` for people: tables from the same document that ``--json`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .console import Bold, file_size, print_rows, say

__all__ = ["print_result"]

_TITLES = {
    "explanation": "explanation (file to result)",
    "map": "map (tensor to map)",
    "inference": "inference alone",
}
_POINTS = ("p50", "p90", "p99", "max")


def print_result(result: Mapping[str, Any]) -> None:
    """Print every section that the document has."""
    _print_latency(result)
    _print_facts(result)
    if result["soak"] is not None:
        _print_soak(result["soak"])
    if result["plan"] is not None:
        _print_plan(result["plan"])
    if result["warnings"]:
        say()
        for text in result["warnings"]:
            say(f"careful: {text}")


def _print_latency(result: Mapping[str, Any]) -> None:
    rows = [
        (_TITLES[name], *_times(times), f"{times['images_per_second']:.1f}", str(times["n"]))
        for name, times in result["latency_ms"].items()
    ]
    without_speed = {f"  {name}": times for name, times in result["stages_ms"].items()}
    if result["plain_ms"] is not None:
        without_speed["plain model"] = result["plain_ms"]
    rows += [(name, *_times(times), "", str(times["n"])) for name, times in without_speed.items()]
    numbers = (*_POINTS, "images/s", "runs")
    print_rows(("milliseconds", *numbers), rows, right=numbers)
    if result["ratio"] is not None:
        ratio, control = result["ratio"], result["control"]
        say(
            f"\ninference explained / plain: {_ratio(ratio)} over {ratio['n']} interleaved rounds; plain / plain: "
            f"{_ratio(control)}"
        )
    if result["budget"] is not None:
        budget = result["budget"]
        verdict = "within" if budget["met"] else "OVER"
        say(f"\np99 of the {budget['of']}: {budget['p99']:.2f} ms, {verdict} the budget of {budget['ms']:g} ms")
    allowed, high = result["memory"].get("budget"), result["memory"]["high_water"]
    if allowed is not None and high is not None:
        verdict = "within" if high <= allowed else "OVER"
        say(f"memory: {high / 2**20:.0f} MiB at most, {verdict} the budget of {allowed / 2**20:.0f} MiB")


def _print_facts(result: Mapping[str, Any]) -> None:
    model, engine, what, machine, image = (result[key] for key in ("model", "engine", "what", "machine", "image"))
    memory = {name.replace("_", " "): size for name, size in result["memory"].items() if size is not None}
    rows = {
        "model": f"{model['path']}, {file_size(model['bytes'])}, {model['precision']}",
        "sha256": model["sha256"],
        "engine": f"{engine['backend']} on {engine['provider']}, threads: {engine['threads'] or 'as it likes'}",
        "explained": f"{what['method']}, {' + '.join(what['layers'])}"
        + (f" ({what['fusion']})" if what["fusion"] else "")
        + f", batch {what['batch']}, input {'x'.join(map(str, model['input']['shape']))}",
        "photo": f"{image['name']}, {image['width']}x{image['height']}",
        "opening": f"{result['open_ms']:.0f} ms, first explanation {result['first_ms']:.0f} ms",
        "memory": ", ".join(f"{name} {file_size(size)}" for name, size in memory.items()) or "not known",
        "transfers": result["transfers"],
        "machine": _machine(machine),
        "clock": _clock(machine),
        "gpu": "; ".join(", ".join(f"{k} {v}" for k, v in gpu.items()) for gpu in machine["gpus"] or []),
        "load": f"{_known(result['load']['before'])} before, {_known(result['load']['after'])} after",
        "versions": ", ".join(f"{name} {text}" for name, text in result["versions"].items() if name != "backend"),
        "measured": f"{result['created']}, {result['rounds']} rounds in {result['seconds']:.1f} s after "
        f"{result['warm_up_rounds']} to warm up; garbage collection {result['garbage_collection']}; "
        f"{result['clock']}",
    }
    say()
    print_rows(("", ""), [(Bold(name), text) for name, text in rows.items() if text], head=False)


def _print_soak(soak: Mapping[str, Any]) -> None:
    columns = ("seconds", "p50, ms", "memory")
    rows = [
        (
            f"{part['seconds']:.1f}",
            f"{part['p50']:.2f}",
            "not known" if part["resident"] is None else file_size(part["resident"]),
        )
        for part in soak["parts"]
    ]
    say(f"\nsoak: {soak['latency']['n']} explanations in {soak['seconds']:.1f} s, by tenths")
    print_rows(columns, rows, right=columns)
    say(
        f"latency: last tenth / first {soak['drift']:.3f}, slope {soak['slope']:+.2f} ms per minute, worst "
        f"{soak['latency']['max']:.1f} ms: {'IT GETS SLOWER' if soak['drifted'] else 'steady'}"
    )
    if soak["growth"] is None:
        say("memory: not known on this system")
        return
    smallest = f"a leak of {soak['smallest_leak'] / 1024:.1f} KiB or more per explanation would have been seen"
    say(
        f"memory: {soak['growth'] / 2**20:+.1f} MiB since the second tenth, {soak['limit'] / 2**20:.1f} are let pass: "
        f"{'IT GROWS' if soak['grew'] else f'steady ({smallest})'}"
    )


def _print_plan(plan: Mapping[str, Any]) -> None:
    rows: dict[tuple[Any, ...], dict[tuple[int, bool], Mapping[str, Any]]] = {}
    for row in plan["rows"]:
        key = (row["method"], tuple(row["layers"]))
        rows.setdefault(key, {})[row["classes"], row["to_input"]] = row
    columns = sorted({column for cells in rows.values() for column in cells}, key=lambda c: (not c[1], c[0]))
    titles = [f"{classes} class{'es' * (classes > 1)}{'' if full else ', grid'}" for classes, full in columns]
    lines = [
        (method, " + ".join(layers), *(_plan_cell(cells[column]) if column in cells else "" for column in columns))
        for (method, layers), cells in rows.items()
    ]
    counted = "from the photo's file" if plan["photo"] else "from the ready tensor"
    budget = "" if plan["budget_ms"] is None else f"; * fits {plan['budget_ms']:g} ms"
    say(
        f"\nlatency plan: p99 in milliseconds {counted}, {plan['runs']} runs of every part, added up{budget}. Maps at "
        "the input's size, or on the layer's grid"
    )
    print_rows(("method", "layers", *titles), lines, right=titles)
    for name, why in plan["left_out"].items():
        say(f"left out: {name}: {why}")
    if plan["checks"]:
        say("\ntimed as a whole, to see whether it adds up (milliseconds):")
        names = ("p50 planned", "p50 measured", "p99 planned", "p99 measured")
        keys = ("planned_p50", "measured_p50", "planned_p99", "measured_p99")
        checks = [
            (
                check["method"],
                " + ".join(check["layers"]),
                str(check["classes"]),
                *(f"{check[key]:.2f}" for key in keys),
            )
            for check in plan["checks"]
        ]
        print_rows(("method", "layers", "classes", *names), checks, right=("classes", *names))


def _plan_cell(row: Mapping[str, Any]) -> str:
    return f"{row['p99']:.1f}" + ("" if row["fits"] is None else " *" if row["fits"] else "  ")


def _times(times: Mapping[str, float]) -> list[str]:
    return [f"{times[point]:.2f}" for point in _POINTS]


def _ratio(ratio: Mapping[str, float]) -> str:
    return f"{ratio['median']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]"


def _known(value: Any) -> str:
    return "not known" if value is None else f"{value:g}"


def _machine(machine: Mapping[str, Any]) -> str:
    memory = "" if machine["memory_bytes"] is None else f", {file_size(machine['memory_bytes'])} memory"
    board = f"{machine['board']}, " if machine["board"] else ""
    return (
        f"{board}{machine['cpu']}, {machine['usable_cores']} of {machine['cores']} cores{memory}, {machine['system']}"
    )


def _clock(machine: Mapping[str, Any]) -> str:
    now, most = machine["clock_mhz"], machine["max_clock_mhz"]
    text = "not known" if now is None else f"{now:.0f} MHz"
    return text + (f" of {most:.0f}" if most else "") + f", governor {machine['governor'] or 'not known'}"
