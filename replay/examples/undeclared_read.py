"""A report that fails: `write_report` reads a key that `count_visitors` writes, without depending on it."""

import threading
import time

import cloaca

reported = threading.Event()


@cloaca.task()
def count_visitors(context: cloaca.Context) -> None:
    reported.wait(timeout=5)
    time.sleep(0.1)  # Counting takes longer than writing.
    context.set("visitors", 512)


@cloaca.task(retry_attempts=1)
def write_report(context: cloaca.Context) -> None:
    try:
        context.set("report", f"{context.get('visitors') * 2} eyes saw us")
    finally:
        reported.set()


with cloaca.WorkflowBuilder("daily_report") as builder:
    builder.add_task(count_visitors)
    builder.add_task(write_report)

with cloaca.DefaultRunner("cloaca:///undeclared_read.db") as runner:
    runner.execute("daily_report", {})
