"""Many executions from many threads at once."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import cloaca
import pytest

from conftest import LIMIT

THREADS = 64
EACH = 40


def define(ran: Counter[int], lock: threading.Lock) -> None:
    with cloaca.WorkflowBuilder("stress"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        def first(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            number = context["number"]
            if number % 17 == 0 and handle.attempt == 1:
                raise ConnectionError(number)
            with lock:
                ran[number] += 1
            context["first"] = [number, str(number)]

        @cloaca.task(dependencies=[first])
        async def second(context: cloaca.Context) -> dict[str, int]:
            return {"second": context["first"][0] * 2}

        @cloaca.task(dependencies=[first], retry_attempts=1)
        def third(context: cloaca.Context) -> dict[str, int]:
            if context["number"] % 29 == 0:
                raise ValueError("as asked")
            return {"third": context["first"][0] * 3}


@pytest.mark.parametrize("where", ["memory", "directory"])
def test_thousands_of_executions_from_64_threads(tmp_path: Path, where: str) -> None:
    ran: Counter[int] = Counter()
    define(ran, threading.Lock())
    wrong: list[str] = []
    ids: set[str] = set()

    def work(thread: int, runner: cloaca.DefaultRunner) -> None:
        for place in range(EACH):
            number = 1 + thread * EACH + place
            try:
                if place % 2:
                    result = runner.execute("stress", {"number": number}, timeout=4 * LIMIT)
                else:
                    result = runner.submit("stress", {"number": number}).result(4 * LIMIT)
                context = result.final_context
                expected = {"number": number, "first": [number, str(number)], "second": 2 * number}
                if number % 29:
                    expected["third"] = 3 * number
                status = "Completed" if number % 29 else "Failed"
                attempts = 2 if number % 17 == 0 else 1
                if (result.status, result.tasks["first"].attempts, context.to_dict()) != (status, attempts, expected):
                    wrong.append(f"{number}: {result} {context}")
                ids.add(result.execution_id)
            except BaseException as error:
                wrong.append(f"{number}: {error!r}")

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=32, durability="os")
    with cloaca.DefaultRunner(":memory:" if where == "memory" else str(tmp_path / "log"), config) as runner:
        threads = [threading.Thread(target=work, args=(number, runner)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        total = THREADS * EACH
        assert not wrong, wrong[:5]
        assert len(ids) == total
        listed = runner.list_executions(limit=2 * total)
        assert {info.id for info in listed} == ids
        assert Counter(info.status for info in listed) == {
            "Completed": total - total // 29,
            "Failed": total // 29,
        }
    # Each task ran exactly as often as the log records: nothing was lost, and nothing ran twice.
    assert set(ran) == set(range(1, total + 1))
    assert set(ran.values()) == {1}
