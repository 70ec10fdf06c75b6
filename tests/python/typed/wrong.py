"""Errors that a type checker has to report: each line that ends in `# wrong`, and no other."""

import cloaca


@cloaca.task(retry_attempts="3")  # wrong
def one(context: cloaca.Context) -> None: ...


@cloaca.task(dependencies=[1])  # wrong
def two(context: cloaca.Context) -> None: ...


@cloaca.task(retries=3)  # wrong
def three(context: cloaca.Context) -> None: ...


@cloaca.task(isolation=True)  # wrong
def four(context: cloaca.Context) -> None: ...


@cloaca.task(retry_backof="fixed")  # wrong
def misspelt(context: cloaca.Context) -> None: ...


@cloaca.task(retry_backoff="fixedd")  # wrong
def backoff(context: cloaca.Context) -> None: ...


@cloaca.task(isolation="proces")  # wrong
def isolation(context: cloaca.Context) -> None: ...


@cloaca.task(trigger_rule="one_sucess")  # wrong
def rule(context: cloaca.Context) -> None: ...


@cloaca.task(retry_condition="transiant")  # wrong
def condition(context: cloaca.Context) -> None: ...


@cloaca.task(retry_condition=ValueError("an instance"))  # wrong
def instance(context: cloaca.Context) -> None: ...


@cloaca.task(trigger_rules=cloaca.context_value("rows", "GreaterThen", 1))  # wrong
def operator(context: cloaca.Context) -> None: ...


@cloaca.trigger(on="etl", poll_intervall="5s")  # wrong
def inbox() -> bool:
    return False


@cloaca.trigger(on="etl", poll_interval=5)  # wrong
def outbox() -> bool:
    return False


@cloaca.task
def five(context: cloaca.Context) -> int:
    return 1


number: str = five(cloaca.Context())  # wrong
five("context")  # wrong
cloaca.Context().set(1, 2)  # wrong
cloaca.Context([("a", 1)])  # wrong
cloaca.WorkflowBuilder(1)  # wrong
cloaca.WorkflowBuilder("w").add_task(3)  # wrong
cloaca.RetryPolicy.builder().max_attempts("3")  # wrong
cloaca.RetryPolicy(3)  # wrong
cloaca.DefaultRunner("log", {"max_concurrent_tasks": 3})  # wrong
config = cloaca.DefaultRunnerConfig(max_concurrent_task=8)  # wrong
cloaca.DefaultRunnerConfig(max_concurrent_tasks="eight")  # wrong
cloaca.DefaultRunnerConfig(max_concurrent_tasks=None)  # wrong
cloaca.DefaultRunnerConfig(enable_recovery="yes")  # wrong
cloaca.DefaultRunnerConfig(durability=100)  # wrong
cloaca.DefaultRunnerConfig("8")  # wrong
config.max_concurrent_tasks = "8"  # wrong
config.max_concurrent_task = 8  # wrong
seconds: str = config.task_timeout_seconds  # wrong
cloaca.workflow_params(3)  # wrong
cloaca.var_or("REGION")  # wrong
cloaca.reactor  # wrong


def run(runner: cloaca.DefaultRunner, history: cloaca.History) -> None:
    runner.execute(five)  # wrong
    runner.execute("w", ["a"])  # wrong
    runner.execute("w", {}, 3)  # wrong
    runner.submit("w").result("10")  # wrong
    status: int = runner.execute("w").status  # wrong
    runner.execute("w").statsu  # wrong
    runner.list_executions(limit="10")  # wrong
    runner.list_executions("failed")  # wrong
    runner.register_cron_workflow("etl", "@daily", "UTC", catchup="all")  # wrong
    print(runner.execute("w").status == "completed")  # wrong
    print(runner.submit("w").status == "Done")  # wrong
    print(runner.list_executions()[0].status == "failed")  # wrong
    print(runner.execute("w").tasks["a"].state == "skipped")  # wrong
    print(history.state(at=1).status == "running")  # wrong
    history.state(at=1.5)  # wrong
    history.diff("other")  # wrong
    history.events[0].seq = 3  # wrong
    cloaca.WorkflowFailedError("message", task="a")  # wrong
    cloaca.TaskHandle("task").defer_until(True)  # wrong
    print(status)


cloaca.nothing  # wrong
