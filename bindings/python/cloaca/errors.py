"""The exceptions that cloaca raises.

Each is a subclass of [`Error`][cloaca.errors.Error], and of the built-in exception that fits (``ValueError``,
``KeyError``, ``TimeoutError``). Programs written for Cloacina expect a ``RuntimeError`` when a runner cannot be
created and a ``ValueError`` from its methods, so these errors are subclasses of those too. The attributes hold the
facts of the message for programs to read. Errors can be pickled.

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
    """Base class of all cloaca errors. An attribute is ``None`` where it does not apply.

    Attributes:
        execution_id: The execution concerned.
        task_id: The task concerned.
        attempt: The number of the task's attempt, from 1.
        seq: The sequence number of the event in the execution's stream.
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
        # KeyError.__str__ would return the repr of the message.
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        attributes = {name: getattr(self, name) for name in self._attributes}
        return _rebuild, (type(self), self.message, attributes)


class NoSlotLeftError(Error, RuntimeError):
    """Raised when a task waits for an execution and every slot of the runner is held by such a waiting task.

    This is a deadlock: no slot is left to run the executions. The most recent wait is refused; its execution goes on.
    To wait without a slot, submit the execution and use [`defer_until`][cloaca.TaskHandle.defer_until] until it is
    [`done`][cloaca.Execution.done].

    An indirect wait, on a thread or a pool that in turn waits for the execution, is detected within a second.

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
    """An error that a retry cannot fix: a task that raises it is not retried, whatever its retry policy says.

    Programs can raise it, or a subclass of their own.

    Example:
        >>> cloaca.RetryPolicy.default().should_retry(1, cloaca.PermanentError("the customer has no address"))
        False
    """


class WorkflowValidationError(Error, ValueError):
    """The workflow's definition is not valid. The message lists every problem.

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
    """No workflow is registered under this name: the name is wrong, or the defining module was not imported.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     try:
        ...         runner.execute("nightly")
        ...     except cloaca.WorkflowNotFoundError as error:
        ...         error.workflow
        'nightly'
    """


class WorkflowInputError(PermanentError, ValueError):
    """The input does not match what the workflow declares with [`workflow_params`][cloaca.workflow_params].

    The message lists every problem. Nothing was written to the log.

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
    """The database URL or path cannot be used. The message lists the supported forms.

    Example:
        >>> try:
        ...     cloaca.DefaultRunner("mysql://localhost/shop")
        ... except cloaca.ConfigurationError as error:
        ...     print(str(error).partition(";")[0])
        mysql://localhost/shop: unknown scheme 'mysql'
    """


class ContextError(Error, ValueError):
    """A value of the input cannot be stored: it is longer than ``max_value_bytes``.

    Example:
        >>> with cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(max_value_bytes=1_000)) as runner:
        ...     try:
        ...         runner.execute("etl", {"text": "x" * 2_000})
        ...     except cloaca.ContextError as error:
        ...         error.key
        'text'
    """


class OperationError(Error, ValueError, RuntimeError):
    """The operation is not possible: the runner is shut down, the execution's state does not allow it, or this process
    cannot run one (a fork, for example).

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
    """The log could not be opened, read or written.

    A ``RuntimeError``, like every error on creating a runner, and a ``ValueError``, like every error of its methods.

    Example:
        >>> import pathlib
        >>> with cloaca.DefaultRunner("busy.log"):
        ...     try:
        ...         cloaca.DefaultRunner("busy.log")
        ...     except cloaca.LogError as error:  # any problem with the log
        ...         type(error).__name__, pathlib.Path(error.path).name
        ('LogLockedError', 'busy.log')
    """


class LogLockedError(LogError):
    """The log is held by another process, or by another runner of this process. Reading it is still possible.

    Example:
        >>> with cloaca.DefaultRunner("shop.log"):
        ...     try:
        ...         cloaca.DefaultRunner("shop.log")
        ...     except cloaca.LogLockedError as error:
        ...         print(str(error).replace(error.path, "shop.log").partition(" by ")[0])
        the log shop.log is in use
    """


class LogCorruptedError(LogError):
    """The log is damaged: it differs from what was written. ``cloaca log repair`` shows what can be recovered.

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
    """The log was written by a newer version of cloaca. Nothing in it was changed.

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
    """The execution did not complete. Raised only by ``raise_for_status()``.

    Its ``__cause__`` is the exception that the task raised: the same object, if it is still in this process.

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
    """An attempt exceeded its timeout. Set as the cause of a ``WorkflowFailedError``.

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
    """The current attempt is over: it timed out, its execution was cancelled, or its runner was shut down.

    Raised by [`TaskHandle.defer_until`][cloaca.TaskHandle.defer_until]. Let it propagate to end the task.

    Example:
        >>> import threading
        >>> tidied = threading.Event()
        >>> with cloaca.WorkflowBuilder("waits"):
        ...     @cloaca.task
        ...     def wait(context, handle):
        ...         try:
        ...             handle.defer_until(lambda: waiting.set() or False)
        ...         except cloaca.AttemptOverError:
        ...             tidied.set()  # clean up, and let the error propagate
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
    """The worker process of a task with ``isolation="process"`` did not start, or did not reach the task's function
    within 300 seconds.

    The start includes importing the task's module. It does not count towards the task's timeout.

    Example:
        >>> @cloaca.task(isolation="process", retry_condition=cloaca.WorkerStartError)
        ... def render(context): ...
        >>> issubclass(cloaca.WorkerStartError, cloaca.Error)
        True
    """


class WorkerDiedError(Error):
    """The worker process of a task with ``isolation="process"`` died during an attempt. The message names the signal.

    Example:
        >>> @cloaca.task(isolation="process", retry_condition=cloaca.WorkerDiedError)
        ... def render(context): ...
        >>> died = cloaca.RetryCondition.error_types(["WorkerDiedError"])  # the same in a policy
        >>> policy = cloaca.RetryPolicy.builder().retry_condition(died).build()
        >>> policy.should_retry(1, cloaca.WorkerDiedError("signal 9")), policy.should_retry(1, ValueError("wrong"))
        (True, False)
    """


class NotJsonError(PermanentError, TypeError, ValueError):
    """A value is not JSON. The message says where in the value, and what to use instead.

    Example:
        >>> cloaca.Context()["tags"] = {"red"}
        Traceback (most recent call last):
        cloaca.errors.NotJsonError: context key 'tags': set is not a JSON value; use sorted(value), or list(value)
    """


class ReturnedTypeError(PermanentError, TypeError):
    """A task returned a value of a type that tasks cannot return.

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
    """A worker process imported the program to find a task, and the import opened a runner.

    Move the code that opens it below ``if __name__ == "__main__":``. Never retried: each import would do the same.

    Example:
        >>> error = cloaca.WorkerImportError("a worker process came to a line that opens a runner")
        >>> cloaca.RetryPolicy.default().should_retry(1, error)
        False
    """


class WaitTimeoutError(Error, TimeoutError):
    """The timeout of a wait expired. The execution continues.

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
    """The log has no execution with this id.

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
    """The execution's context never had this key.

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
    """With ``strict_context``, a task read a key that only a task outside its dependencies wrote.

    If the task does not catch it, the attempt fails.

    Example:
        >>> with cloaca.WorkflowBuilder("careless"):
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = 3
        ...     @cloaca.task
        ...     def load(context):  # does not declare that it depends on extract
        ...         try:
        ...             context["loaded"] = context["rows"]
        ...         except cloaca.UndeclaredReadError as error:
        ...             context["missing"] = error.key
        >>> config = cloaca.DefaultRunnerConfig(strict_context=True, max_concurrent_tasks=1)
        >>> with cloaca.DefaultRunner(":memory:", config) as runner:
        ...     runner.execute("careless").final_context["missing"]
        'rows'
    """
