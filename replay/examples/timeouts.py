"""A download that always times out: each attempt may take 0.05 s, and the server takes longer."""

import threading

import cloaca

over = threading.Event()


@cloaca.task()
def choose_mirror(context: cloaca.Context) -> None:
    context.set("mirror", "mirror7.example")


@cloaca.task(
    dependencies=[choose_mirror],
    retry_attempts=2,
    retry_backoff="fixed",
    retry_delay_ms=10,
    retry_jitter=False,
    timeout_seconds=0.05,
)
def download(context: cloaca.Context) -> None:
    context.get("mirror")
    over.wait(timeout=5)


with cloaca.WorkflowBuilder("mirror_sync") as builder:
    builder.add_task(choose_mirror)
    builder.add_task(download)

with cloaca.DefaultRunner("cloaca:///timeouts.db") as runner:
    runner.execute("mirror_sync", {})
    over.set()
