"""An import that fails after five attempts, all on the same server, which is down."""

import cloaca


@cloaca.task()
def find_server(context: cloaca.Context) -> None:
    context.set("server", "db01.example")


@cloaca.task(dependencies=[find_server], retry_attempts=5, retry_backoff="fixed", retry_delay_ms=20, retry_jitter=False)
def import_orders(context: cloaca.Context) -> None:
    raise ConnectionError(f"no route to {context.get('server')}")


@cloaca.task(dependencies=[import_orders])
def bill_orders(context: cloaca.Context) -> None:
    context.set("billed", True)


with cloaca.WorkflowBuilder("nightly_import") as builder:
    for task in (find_server, import_orders, bill_orders):
        builder.add_task(task)

with cloaca.DefaultRunner("cloaca:///retry_storm.db") as runner:
    runner.execute("nightly_import", {})
