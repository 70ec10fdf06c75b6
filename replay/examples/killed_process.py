"""A task that kills its process each time it is resumed. After four deaths it fails.

Run it until it ends well: `until python killed_process.py; do :; done`.
"""

import os
import signal

import cloaca

EXECUTION = "01935f00-0000-7000-8000-00000000dead"


@cloaca.task()
def load_model(context: cloaca.Context) -> None:
    context.set("model", "large")


@cloaca.task(dependencies=[load_model])
def predict(context: cloaca.Context) -> None:
    context.get("model")
    os.kill(os.getpid(), signal.SIGKILL)  # As the kernel does when memory runs out.


with cloaca.WorkflowBuilder("prediction") as builder:
    builder.add_task(load_model)
    builder.add_task(predict)

with cloaca.DefaultRunner("cloaca:///killed_process.db") as runner:
    runner.execute("prediction", {}, execution_id=EXECUTION)
