"""An engine under the control of a test: the tasks of its workflow wait until the test releases them.

Reads commands from standard input, one per line: `start` starts an execution and prints its id, `go TASK` lets one
attempt at a task end, `quit` closes the log.
"""

import sys
import threading

import cloaca

gates = {name: threading.Semaphore(0) for name in ("extract", "left", "right", "load")}

with cloaca.WorkflowBuilder("steered") as builder:

    @cloaca.task
    def extract(context: cloaca.Context) -> None:
        gates["extract"].acquire()
        context.set("rows", [1, 2, 3])

    @cloaca.task(dependencies=[extract])
    def left(context: cloaca.Context) -> None:
        gates["left"].acquire()
        context.set("left", len(context["rows"]))

    @cloaca.task(dependencies=[extract], retry_attempts=2, retry_delay_ms=0)
    def right(context: cloaca.Context) -> None:
        gates["right"].acquire()
        if not context.get("tried"):
            raise ConnectionError("</script><b>nobody answers</b>")

    @cloaca.task(dependencies=[left])
    def load(context: cloaca.Context) -> None:
        gates["load"].acquire()
        context.set("loaded", True)


def main() -> None:
    """Executes commands until `quit`."""
    runner = cloaca.DefaultRunner(sys.argv[1])
    print("open", flush=True)
    for line in sys.stdin:
        match line.split():
            case ["start"]:
                print(runner.submit("steered", {"day": "2026-11-24"}).id, flush=True)
            case ["go", name]:
                gates[name].release()
            case ["quit"]:
                break
    runner.shutdown()
    print("closed", flush=True)


main()
