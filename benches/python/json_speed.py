"""Compares the conversion of context values with `json` and `orjson`, on data shaped like the tutorial's.

    .venv/bin/python benches/python/json_speed.py

Each row is the median of many rounds in microseconds, and the speed relative to the module `json`. A write to a context
is exactly the conversion of the value to JSON text, and a read the conversion back.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import cloaca

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

ROUNDS = 60
SECONDS = 0.005


def customers() -> dict[str, Any]:
    """A hundred customers, as the tutorial's first task makes them."""
    segments = ("premium", "standard", "basic")
    return {
        "customers": [
            {
                "id": number,
                "name": f"Customer_{number}",
                "segment": segments[number % 3],
                "value": number * 137 % 9_900 + 100,
                "region": "north" if number % 2 else "south",
            }
            for number in range(1, 101)
        ],
        "metadata": {"source": "customer_database", "complete": True, "checked": None},
        "total_records": 100,
    }


def report() -> dict[str, Any]:
    """The result of its last tasks: nested objects with floats and texts."""
    return {
        segment: {
            "count": 33,
            "total_value": 171_234.5,
            "average_value": 171_234.5 / 33,
            "share": 1 / 3,
            "notes": [f"the {segment} segment is “up” by {number}.5 %\n" for number in range(5)],
            "top": customers()["customers"][:5],
        }
        for segment in ("premium", "standard", "basic")
    }


def numbers() -> list[Any]:
    """Nothing but integers and floats."""
    return [[number, number / 7, -number * 1e-7, number * 10**12] for number in range(250)]


def micros(call: Callable[[], object]) -> float:
    """The median time of a call, in microseconds."""
    began = time.perf_counter()
    call()
    times = max(1, int(SECONDS / max(time.perf_counter() - began, 1e-7)))
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            call()
        rounds.append((time.perf_counter() - began) / times)
    return statistics.median(rounds) * 1e6


def row(name: str, own: Callable[[], object], theirs: Callable[[], object], fast: Callable[[], object] | None) -> None:
    base = micros(theirs)
    mine = micros(own)
    line = f"  {name:34} {mine:8.1f}   {base / mine:4.1f} ×   json {base:8.1f}"
    if fast is not None:
        other = micros(fast)
        line += f"   orjson {other:8.1f} ({base / other:4.1f} ×)"
    print(line, flush=True)


def measure(what: str, value: Any) -> None:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    print(f"{what}: {len(text.encode())} bytes of JSON")
    context = cloaca.Context({"value": value})
    whole = cloaca.Context({"value": value})
    whole_text = whole.to_json()
    data = {"value": value}

    def write() -> None:
        context["value"] = value

    def dumps(sort: bool = False) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False, sort_keys=sort)

    fast = orjson
    row("write: context[key] = value", write, dumps, fast and (lambda: fast.dumps(value)))
    row("read: context[key]", lambda: context["value"], lambda: json.loads(text), fast and (lambda: fast.loads(text)))
    row("Context(data)", lambda: cloaca.Context(data), dumps, fast and (lambda: fast.dumps(data)))
    row(
        "to_json, sorted",
        whole.to_json,
        lambda: json.dumps(data, separators=(",", ":"), ensure_ascii=False, sort_keys=True),
        fast and (lambda: fast.dumps(data, option=fast.OPT_SORT_KEYS)),
    )
    row(
        "from_json",
        lambda: cloaca.Context.from_json(whole_text),
        lambda: json.loads(whole_text),
        fast and (lambda: fast.loads(whole_text)),
    )
    assert context["value"] == json.loads(text)


def main() -> None:
    print("microseconds, and times the speed of json")
    measure("customers", customers())
    measure("report", report())
    measure("numbers", numbers())


if __name__ == "__main__":
    main()
