"""A task that waits for a file that never appears, because another program writes it under a different name."""

import os

import cloaca


@cloaca.task()
def order_export(context: cloaca.Context) -> None:
    context.set("file", "export-2026-11-24.csv")


@cloaca.task(dependencies=[order_export])
def wait_for_export(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    handle.defer_until(lambda: os.path.exists(context.get("file")), poll_interval_ms=5)


@cloaca.task(dependencies=[wait_for_export])
def load_export(context: cloaca.Context) -> None:
    context.set("rows", 0)


with cloaca.WorkflowBuilder("import_export") as builder:
    for task in (order_export, wait_for_export, load_export):
        builder.add_task(task)

with cloaca.DefaultRunner("cloaca:///endless_wait.db") as runner:
    try:
        runner.execute("import_export", {}, timeout=0.3)
    except cloaca.WaitTimeoutError:
        print("not done after 0.3 s")
