"""A user's program under the strictest settings of the type checkers. It is checked, not run."""

import asyncio
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import cloaca
from cloaca import events
from cloaca.testing import Runner, VirtualClock


@cloaca.task
def extract(context: cloaca.Context) -> None:
    context["rows"] = [1, 2, 3]


@cloaca.task(
    id="transform",
    dependencies=[extract, "other"],
    retry_attempts=5,
    retry_backoff="fixed",
    retry_condition=(ConnectionError, TimeoutError),
    timeout_seconds=1.5,
    isolation="process",
    trigger_rules=cloaca.all_of(cloaca.task_success("extract"), {"type": "Always"}),
)
def transform(context: cloaca.Context, handle: cloaca.TaskHandle) -> dict[str, Any]:
    handle.defer_until(lambda: handle.attempt > 0, poll_interval_ms=10)
    return {"count": len(context["rows"])}


@cloaca.workflow_params(day=str, limit=(int, 100))
@cloaca.task(
    dependencies=["public::embedded::etl::extract", cloaca.TaskNamespace("public", "embedded", "etl", "transform")],
    retry_backoff="exponential",
    retry_condition="transient",
    trigger_rule="all_done",
    isolation="thread",
)
def report(context: cloaca.Context) -> None:
    context["report"] = context["day"]


@cloaca.task(retry_condition=OSError, trigger_rules=cloaca.context_value("rows", "not_equals", 1))
def check(context: cloaca.Context) -> None: ...


@cloaca.trigger(on="etl", poll_interval="5s", allow_concurrent=True)
def inbox() -> cloaca.TriggerResult:
    return cloaca.TriggerResult.fire({"day": cloaca.var_or("DAY", "today")})


@cloaca.trigger(cron="@daily", timezone="Europe/Berlin", poll_interval=None)
async def nightly() -> bool:
    return True


def settings(given: Mapping[str, Any]) -> cloaca.DefaultRunnerConfig:
    config = cloaca.DefaultRunnerConfig(8, task_timeout_seconds=60, durability="interval:100")
    config.pipeline_timeout_seconds = None
    return cloaca.DefaultRunnerConfig(**given) if given else config


def url() -> str:
    return "postgresql://log.example/flows" if cloaca.get_backend() == "postgres" else "sqlite:///flows"


def condition() -> str:
    tree = cloaca.any_of(cloaca.always(), cloaca.task_failed(task_name=extract))
    plain: dict[str, Any] = tree
    return json.dumps(plain) if tree == {"type": "Always"} else str(tree["type"])


def words(runner: cloaca.DefaultRunner) -> list[str]:
    result = runner.execute("etl")
    schedule = runner.register_cron_workflow("etl", "@daily", "UTC", catchup="run_all")
    found: list[str] = [info.status for info in runner.list_executions("Running")]
    if result.status == "Failed" or result.tasks["extract"].state == "Skipped":
        found += [result.status, runner.get_cron_schedule(schedule)["catchup_policy"]]
    return found


def told(task_id: str, error: str, context: cloaca.Context) -> None:
    print(task_id, error, context.to_json())


@cloaca.task(on_failure=told)
async def load(context: cloaca.Context, handle: cloaca.TaskHandle) -> cloaca.Context:
    await handle.defer_until(lambda: True)
    await asyncio.sleep(0)
    return context


def unit_test() -> None:
    context = cloaca.Context({"rows": []})
    extract(context)
    count: dict[str, Any] = transform(context, cloaca.TaskHandle("transform"))
    assert count["count"] == 3


def build() -> cloaca.Workflow:
    with cloaca.WorkflowBuilder("etl") as builder:
        builder.description("moves rows").tag("team", "data").add_task(extract).add_task("transform")
    return builder.build()


def run(data: Mapping[str, Any]) -> str:
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2, workflow_timeout_seconds=None, durability="os")
    config.max_concurrent_tasks = 3
    cloaca.register_workflow_constructor("etl", build)
    with cloaca.DefaultRunner("cloaca:///log", config) as runner:
        result = runner.execute("etl", data, timeout=10, progress=True)
        execution = runner.submit("etl", execution_id=None)
        execution.cancel("enough")
        status: str = execution.result(timeout=5).status
        for info in runner.list_executions("Failed", limit=10):
            print(info.id, info.start_time, info.blocked)
    text: str = result.final_context.get("text", "nothing")
    number: int | None = result.tasks["extract"].attempts if "extract" in result.tasks else None
    took: timedelta | None = result.raise_for_status().duration
    return f"{text} {number} {took} {status}"


async def waits(runner: cloaca.DefaultRunner) -> cloaca.WorkflowResult:
    await runner.submit("etl")
    return await runner.execute_async("etl", {"a": 1})


def look(history: cloaca.History) -> list[str]:
    lines: list[str] = []
    for event in history.events:
        if isinstance(event, events.TaskFailed):
            lines.append(f"{event.task} {event.attempt} {event.error.message}")
    for step in history.why("rows", at="extract"):
        lines.append(f"{step.key} {step.seq}")
    with history.debug(extract) as context:
        extract(context)
    if history.verify() and history.rerun("extract").same:
        lines.append(str(history.diff(history).same))
    lines.append(history.state(at=timedelta(seconds=1)).tasks["extract"].state)
    return lines


def test_something(cloaca_runner: Runner, cloaca_clock: VirtualClock) -> None:
    with cloaca_runner.crash_after(3) as crash:
        cloaca_runner.execute("etl")
    cloaca_clock.advance(60)
    try:
        cloaca_runner.get_execution(crash.execution_id).result()
    except cloaca.WorkflowFailedError as error:
        place: tuple[str | None, int | None, str | None] = (error.task_id, error.seq, error.path)
        print(place)


policy: cloaca.RetryPolicy = (
    cloaca.RetryPolicy.builder().max_attempts(3).backoff_strategy(cloaca.BackoffStrategy.linear(1.0)).build()
)
delay: float = policy.calculate_delay(2)
