"""What a type checker has to refuse: each line that ends in `# wrong` is an error, and no other is."""

import cloaca


@cloaca.task(retry_attempts="3")  # wrong
def one(context: cloaca.Context) -> None: ...


@cloaca.task(dependencies=[1])  # wrong
def two(context: cloaca.Context) -> None: ...


@cloaca.task(retries=3)  # wrong
def three(context: cloaca.Context) -> None: ...


@cloaca.task(isolation=True)  # wrong
def four(context: cloaca.Context) -> None: ...


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


def run(runner: cloaca.DefaultRunner, history: cloaca.History) -> None:
    runner.execute(five)  # wrong
    runner.execute("w", ["a"])  # wrong
    runner.execute("w", {}, 3)  # wrong
    runner.submit("w").result("10")  # wrong
    status: int = runner.execute("w").status  # wrong
    runner.execute("w").statsu  # wrong
    runner.list_executions(limit="10")  # wrong
    history.state(at=1.5)  # wrong
    history.diff("other")  # wrong
    history.events[0].seq = 3  # wrong
    cloaca.WorkflowFailedError("message", task="a")  # wrong
    cloaca.TaskHandle("task").defer_until(True)  # wrong
    print(status)


cloaca.nothing  # wrong
