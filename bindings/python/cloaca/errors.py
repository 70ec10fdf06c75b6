"""Everything that cloaca raises by itself.

All of it is an [`Error`][cloaca.errors.Error]; where Python has a word for the kind of mistake (``ValueError``,
``KeyError``, ``TimeoutError``), it is that too. Errors of a runner's construction are also ``RuntimeError``, those of
its methods also ``ValueError``, as programs for Cloacina expect. The attributes say what the message says, for
programs. Errors can be pickled.

>>> import cloaca
>>> with cloaca.WorkflowBuilder("etl"):
...     @cloaca.task
...     def extract(context):
...         context["rows"] = 3
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AttemptOverError",
    "ConfigurationError",
    "ContextError",
    "Error",
    "ExecutionNotFoundError",
    "LogCorruptedError",
    "LogError",
    "LogLockedError",
    "LogVersionError",
    "MomentNotFoundError",
    "NoSlotLeftError",
    "NotJsonError",
    "OperationError",
    "PermanentError",
    "ReturnedTypeError",
    "TaskTimeoutError",
    "UndeclaredReadError",
    "UnknownKeyError",
    "WaitTimeoutError",
    "WorkerDiedError",
    "WorkerImportError",
    "WorkerStartError",
    "WorkflowFailedError",
    "WorkflowInputError",
    "WorkflowNotFoundError",
    "WorkflowValidationError",
]


def _rebuild(cls: type[Error], message: str, attributes: dict[str, Any]) -> Error:
    return cls(message, **attributes)


class Error(Exception):
    """What every error of cloaca is. An attribute is ``None`` where it does not apply.

    Attributes:
        execution_id: The execution that it is about.
        task_id: The task that it is about.
        attempt: The attempt at that task, from 1.
        seq: The event in the execution's stream.
        path: The log's directory.
        key: The context key.
        workflow: The workflow's name.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.execute("elt")
        ...     except cloaca.Error as error:
        ...         error.message, error.workflow, error.task_id
        ("workflow 'elt' is not registered; did you mean 'etl'?", 'elt', None)
    """

    _attributes: ClassVar[tuple[str, ...]] = (
        "execution_id",
        "task_id",
        "attempt",
        "seq",
        "path",
        "key",
        "workflow",
    )

    def __init__(
        self,
        message: str = "",
        *,
        execution_id: str | None = None,
        task_id: str | None = None,
        attempt: int | None = None,
        seq: int | None = None,
        path: str | None = None,
        key: str | None = None,
        workflow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.execution_id = execution_id
        self.task_id = task_id
        self.attempt = attempt
        self.seq = seq
        self.path = path
        self.key = key
        self.workflow = workflow

    def __str__(self) -> str:
        # KeyError would show the message as a repr.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = {name: getattr(self, name) for name in self._attributes}
        return _rebuild, (type(self), self.message, attributes)


class NoSlotLeftError(Error, RuntimeError):
    """A task waited for an execution that could never run: every slot of the runner was held by a task that did so.

    Each of them would have waited for ever. So the wait that came last is refused, and what it waited for goes on. To
    wait without a slot, submit the execution, and let [`defer_until`][cloaca.TaskHandle.defer_until] wait until it is
    [`done`][cloaca.Execution.done].

    A task that waits for a thread or a pool of its own, which waits for the execution, is recognised within a second.

    Example:
        >>> with cloaca.WorkflowBuilder("parent"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def parent(context):
        ...         runner.execute("etl")
        >>> with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)) as runner:
        ...     runner.execute("parent").tasks["parent"].error.partition(":")[0]
        'NoSlotLeftError'
    """


class PermanentError(Error):
    """What another attempt would only repeat: a task that fails with it is not tried again, whatever its policy says.
    A program may raise it, or a class of its own that derives from it.

    Example:
        >>> cloaca.RetryPolicy.default().should_retry(1, cloaca.PermanentError("the customer has no address"))
        False
    """


class WorkflowValidationError(Error, ValueError):
    """A workflow that cannot be: every problem that it has is in the message.

    Example:
        >>> try:
        ...     with cloaca.WorkflowBuilder("circle"):
        ...         @cloaca.task(dependencies=["hen"])
        ...         def egg(): ...
        ...         @cloaca.task(dependencies=["egg"])
        ...         def hen(): ...
        ... except cloaca.WorkflowValidationError as error:
        ...     print(error)
        workflow 'circle' is not valid: Circular dependency detected: egg -> hen -> egg
    """


class WorkflowNotFoundError(Error, ValueError):
    """No workflow of this name is registered: the module that defines it was not imported, or the name is wrong.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.execute("nightly")
        ...     except cloaca.WorkflowNotFoundError as error:
        ...         error.workflow
        'nightly'
    """


class WorkflowInputError(PermanentError, ValueError):
    """An input that is not what the workflow declares with [`workflow_params`][cloaca.workflow_params]: every problem
    that it has is in the message. Nothing was written.

    Example:
        >>> with cloaca.WorkflowBuilder("import_day"):
        ...     @cloaca.workflow_params(day=str)
        ...     @cloaca.task
        ...     def load(context): ...
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.execute("import_day", {"dya": "2026-01-31"})
        ...     except cloaca.WorkflowInputError as error:
        ...         print(error)
        the input of workflow 'import_day' is not valid: 'dya' is unknown, did you mean 'day'?; 'day' (str) is missing
    """


class ConfigurationError(Error, ValueError, RuntimeError):
    """A database URL or path that cannot be used. The message has the forms that can be.

    Example:
        >>> try:
        ...     cloaca.DefaultRunner("mysql://localhost/shop")
        ... except cloaca.ConfigurationError as error:
        ...     print(str(error).partition(";")[0])
        mysql://localhost/shop: unknown scheme 'mysql'
    """


class ContextError(Error, ValueError):
    """A value of an input that cannot be stored: it is longer than ``max_value_bytes``.

    Example:
        >>> with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1_000)) as runner:
        ...     try:
        ...         runner.execute("etl", {"text": "x" * 2_000})
        ...     except cloaca.ContextError as error:
        ...         error.key
        'text'
    """


class OperationError(Error, ValueError, RuntimeError):
    """A runner cannot do what it was asked: it is shut down, the process is not one for it, or the execution is not in
    a state for it.

    Example:
        >>> runner = cloaca.DefaultRunner(":memory:")
        >>> runner.shutdown()
        >>> try:
        ...     runner.execute("etl")
        ... except ValueError as error:
        ...     type(error).__name__
        'OperationError'
    """


class LogError(Error, RuntimeError, ValueError):
    """The log could not be opened, read or written. It is a ``RuntimeError``, as what the construction of a runner
    raises, and a ``ValueError``, as what its methods raise.

    Example:
        >>> import pathlib
        >>> with cloaca.DefaultRunner("busy.log"):
        ...     try:
        ...         cloaca.DefaultRunner("busy.log")
        ...     except cloaca.LogError as error:  # whatever is wrong with the log
        ...         type(error).__name__, pathlib.Path(error.path).name
        ('LogLockedError', 'busy.log')
    """


class LogLockedError(LogError):
    """Another process, or another runner of this one, has the log. Reading it works all the same.

    Example:
        >>> with cloaca.DefaultRunner("shop.log"):
        ...     try:
        ...         cloaca.DefaultRunner("shop.log")
        ...     except cloaca.LogLockedError as error:
        ...         print(str(error).replace(error.path, "shop.log").partition(" by ")[0])
        the log shop.log is in use
    """


class LogCorruptedError(LogError):
    """The log is not what was written. ``cloaca log repair`` says what can be saved.

    Example:
        >>> import pathlib
        >>> cloaca.DefaultRunner("damaged.log").shutdown()
        >>> _ = pathlib.Path("damaged.log", "head").write_bytes(b"something else")
        >>> try:
        ...     cloaca.DefaultRunner("damaged.log")
        ... except cloaca.LogCorruptedError as error:
        ...     pathlib.Path(error.path).name
        'damaged.log'
    """


class LogVersionError(LogError):
    """A newer version wrote the log; this one leaves it alone.

    Example:
        >>> import pathlib
        >>> cloaca.DefaultRunner("newer.log").shutdown()
        >>> _ = pathlib.Path("newer.log", "format").write_text("cloacina-log 1000\\n")
        >>> try:
        ...     cloaca.DefaultRunner("newer.log")
        ... except cloaca.LogVersionError as error:
        ...     pathlib.Path(error.path).name
        'newer.log'
    """


class WorkflowFailedError(Error):
    """An execution that did not complete. Raised by ``raise_for_status()`` only; its ``__cause__`` is what the task
    raised, the same object where that is still in this process.

    Example:
        >>> with cloaca.WorkflowBuilder("fails"):
        ...     @cloaca.task(retry_attempts=1)
        ...     def fail():
        ...         raise ValueError("as asked")
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     result = runner.execute("fails")
        >>> try:
        ...     result.raise_for_status()
        ... except cloaca.WorkflowFailedError as error:
        ...     error.workflow, error.task_id, error.attempt, error.__cause__
        ('fails', 'fail', 1, ValueError('as asked'))
    """


class TaskTimeoutError(Error, TimeoutError):
    """An attempt that took longer than its timeout. It is the cause of a ``WorkflowFailedError``.

    Example:
        >>> import time
        >>> with cloaca.WorkflowBuilder("slow"):
        ...     @cloaca.task(retry_attempts=1, timeout_seconds=60)
        ...     def wait(context, handle):
        ...         while not handle.is_over:
        ...             time.sleep(0.01)
        >>> clock = cloaca.testing.VirtualClock()
        >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
        ...     execution = runner.submit("slow")
        ...     clock.advance(61)
        ...     try:
        ...         execution.result().raise_for_status()
        ...     except cloaca.WorkflowFailedError as error:
        ...         isinstance(error.__cause__, cloaca.TaskTimeoutError), error.__cause__.task_id
        (True, 'wait')
    """


class AttemptOverError(Error):
    """The attempt that a task makes counts no more: it timed out, its execution was cancelled, or its runner was shut
    down. Raised in [`TaskHandle.defer_until`][cloaca.TaskHandle.defer_until]; let it pass, and the task ends.

    Example:
        >>> import threading
        >>> tidied = threading.Event()
        >>> with cloaca.WorkflowBuilder("waits"):
        ...     @cloaca.task
        ...     def wait(context, handle):
        ...         try:
        ...             handle.defer_until(lambda: waiting.set() or False)
        ...         except cloaca.AttemptOverError:
        ...             tidied.set()  # close what is open, and let the error pass
        ...             raise
        >>> waiting = threading.Event()
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     execution = runner.submit("waits")
        ...     _ = waiting.wait()
        ...     execution.cancel()
        ...     tidied.wait()
        True
    """


class WorkerStartError(Error):
    """A worker process for a task with ``isolation="process"`` could not be started, or has not come to the task's
    function within 300 seconds. What it needs to start (it imports the task's module) counts towards no timeout of the
    task.

    Example:
        >>> @cloaca.task(isolation="process", retry_condition=cloaca.WorkerStartError)
        ... def render(context): ...
        >>> issubclass(cloaca.WorkerStartError, cloaca.Error)
        True
    """


class WorkerDiedError(Error):
    """The worker process of a task with ``isolation="process"`` died while the task ran; the message has the signal.

    Example:
        >>> @cloaca.task(isolation="process", retry_condition=cloaca.WorkerDiedError)
        ... def render(context): ...
        >>> died = cloaca.RetryCondition.error_types(["WorkerDiedError"])  # the same in a policy
        >>> policy = cloaca.RetryPolicy.builder().retry_condition(died).build()
        >>> policy.should_retry(1, cloaca.WorkerDiedError("signal 9")), policy.should_retry(1, ValueError("wrong"))
        (True, False)
    """


class NotJsonError(PermanentError, TypeError, ValueError):
    """A value that is not JSON, and where in it; the message says what to use instead.

    Example:
        >>> cloaca.Context()["tags"] = {"red"}
        Traceback (most recent call last):
        cloaca.errors.NotJsonError: context key 'tags': set is not a JSON value; use sorted(value), or list(value)
    """


class ReturnedTypeError(PermanentError, TypeError):
    """A task returned something that a task cannot return.

    Example:
        >>> with cloaca.WorkflowBuilder("count"):
        ...     @cloaca.task
        ...     def count(context):
        ...         return 3
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     task = runner.execute("count").tasks["count"]
        >>> task.attempts, task.error.partition(":")[0]
        (1, 'ReturnedTypeError')
    """


class WorkerImportError(PermanentError, RuntimeError):
    """A worker process imported the program to find a task, and came to a line that opens a runner. What the program
    does belongs below ``if __name__ == "__main__":``. No policy tries this again: it would be the same each time.

    Example:
        >>> error = cloaca.WorkerImportError("a worker process came to a line that opens a runner")
        >>> cloaca.RetryPolicy.default().should_retry(1, error)
        False
    """


class WaitTimeoutError(Error, TimeoutError):
    """The time for a wait ran out. The execution goes on.

    Example:
        >>> with cloaca.WorkflowBuilder("waits"):
        ...     @cloaca.task
        ...     def wait(context, handle):
        ...         handle.defer_until(lambda: False)
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.execute("waits", timeout=0.01)
        ...     except cloaca.WaitTimeoutError as error:
        ...         runner.get_execution(error.execution_id).cancel()
    """


class ExecutionNotFoundError(Error, LookupError, ValueError):
    """No execution in this log has that id.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.get_execution("00000000-0000-7000-8000-000000000000")
        ...     except cloaca.ExecutionNotFoundError as error:
        ...         error.execution_id
        '00000000-0000-7000-8000-000000000000'
    """


class MomentNotFoundError(Error, LookupError):
    """The history has no such moment: no such event, time, task or attempt.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("etl").history()
        >>> try:
        ...     history.state(at=1_000)
        ... except cloaca.MomentNotFoundError as error:
        ...     print(error)
        there is no event with seq 1000; the last one is 4
    """


class UnknownKeyError(Error, KeyError):
    """The context of that execution never had the key.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     history = runner.execute("etl").history()
        >>> try:
        ...     history.why("row")
        ... except cloaca.UnknownKeyError as error:
        ...     print(error)
        no key 'row' in the context; did you mean 'rows'?
    """


class UndeclaredReadError(PermanentError, KeyError):
    """With ``strict_context``: a task read a key that only a task wrote which it does not depend on. Where a task does
    not catch it, its attempt fails.

    Example:
        >>> with cloaca.WorkflowBuilder("careless"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = 3
        ...     @cloaca.task
        ...     def load(context):  # does not say that it depends on extract
        ...         try:
        ...             context["loaded"] = context["rows"]
        ...         except cloaca.UndeclaredReadError as error:
        ...             context["missing"] = error.key
        >>> config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
        >>> with cloaca.DefaultRunner(":memory:", config) as runner:
        ...     runner.execute("careless").final_context["missing"]
        'rows'
    """
