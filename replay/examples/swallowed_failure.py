"""A backup that is Completed every night although it fails: the cleanup task always runs, and ends the graph."""

import cloaca


@cloaca.task(retry_attempts=1)
def copy_database(context: cloaca.Context) -> None:
    raise OSError(28, "No space left on device", "/backup/2026-11-24.dump")


@cloaca.task(dependencies=[copy_database])
def check_copy(context: cloaca.Context) -> None:
    context.set("checked", True)


@cloaca.task(dependencies=[check_copy], trigger_rule="all_done")
def remove_lock(context: cloaca.Context) -> None:
    context.set("lock", None)


with cloaca.WorkflowBuilder("nightly_backup") as builder:
    for task in (copy_database, check_copy, remove_lock):
        builder.add_task(task)

with cloaca.DefaultRunner("cloaca:///swallowed_failure.db") as runner:
    print(runner.execute("nightly_backup", {}).status)
