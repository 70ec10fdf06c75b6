"""Workflows of Python functions, kept in an event log.

Every change of an execution's state is an event in an append-only log, and everything else is computed from that: the
running engine, the recovery after a crash, and the debugger ``replay`` all use the same function.

>>> import cloaca
>>> with cloaca.WorkflowBuilder("greeting") as builder:
...     @cloaca.task
...     def greet(context):
...         context["greeting"] = f"Hello, {context['name']}!"
>>> with cloaca.DefaultRunner(":memory:") as runner:
...     runner.execute("greeting", {"name": "Ada"}).final_context["greeting"]
'Hello, Ada!'
"""

from __future__ import annotations

import sys as _sys
import typing as _typing
from collections.abc import MutableMapping as _MutableMapping

from . import _exit as _exit
from . import _interpreter as _interpreter
from ._cloaca import VERSION as __version__
from ._cloaca import (
    BackoffStrategy,
    Context,
    RetryCondition,
    RetryPolicy,
    RetryPolicyBuilder,
)
from ._handle import TaskHandle
from ._task import task
from ._trigger import TriggerResult, trigger
from .conditions import (
    Condition,
    all_of,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from .config import DefaultRunnerConfig
from .errors import (
    AttemptOverError,
    ConfigurationError,
    ContextError,
    Error,
    ExecutionNotFoundError,
    LogCorruptedError,
    LogError,
    LogLockedError,
    LogVersionError,
    MomentNotFoundError,
    TaskTimeoutError,
    UndeclaredReadError,
    UnknownKeyError,
    WaitTimeoutError,
    WorkerDiedError,
    WorkerImportError,
    WorkerStartError,
    WorkflowFailedError,
    WorkflowNotFoundError,
    WorkflowValidationError,
)
from .namespace import TaskNamespace, WorkflowContext
from .workflow import Workflow, WorkflowBuilder, register_workflow_constructor

if _typing.TYPE_CHECKING:
    from . import events, testing
    from .execution import Execution, ExecutionInfo
    from .history import History
    from .result import PipelineResult, TaskResult, WorkflowResult
    from .runner import DefaultRunner

__all__ = [
    "AttemptOverError",
    "BackoffStrategy",
    "Condition",
    "ConfigurationError",
    "Context",
    "ContextError",
    "DefaultRunner",
    "DefaultRunnerConfig",
    "Error",
    "Execution",
    "ExecutionInfo",
    "ExecutionNotFoundError",
    "HelloClass",
    "History",
    "LogCorruptedError",
    "LogError",
    "LogLockedError",
    "LogVersionError",
    "MomentNotFoundError",
    "PipelineResult",
    "RetryCondition",
    "RetryPolicy",
    "RetryPolicyBuilder",
    "TaskHandle",
    "TaskNamespace",
    "TaskResult",
    "TaskTimeoutError",
    "TriggerResult",
    "UndeclaredReadError",
    "UnknownKeyError",
    "WaitTimeoutError",
    "WorkerDiedError",
    "WorkerImportError",
    "WorkerStartError",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowContext",
    "WorkflowFailedError",
    "WorkflowNotFoundError",
    "WorkflowResult",
    "WorkflowValidationError",
    "__version__",
    "all_of",
    "always",
    "any_of",
    "context_value",
    "events",
    "get_backend",
    "hello_world",
    "none_of",
    "register_workflow_constructor",
    "task",
    "task_failed",
    "task_skipped",
    "task_success",
    "testing",
    "trigger",
]

_MutableMapping.register(Context)

# What needs asyncio and logging is imported when it is asked for: a program that only defines tasks starts faster.
_LAZY = {
    "DefaultRunner": "runner",
    "Execution": "execution",
    "ExecutionInfo": "execution",
    "History": "history",
    "PipelineResult": "result",
    "TaskResult": "result",
    "WorkflowResult": "result",
}

_MODULES = frozenset({"events", "testing"})


if not _typing.TYPE_CHECKING:
    # A type checker would take any name that is asked for.

    def __getattr__(name: str) -> _typing.Any:
        from importlib import import_module

        module = _LAZY.get(name)
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if module is None:
            raise AttributeError(f"module 'cloaca' has no attribute {name!r}")
        value = getattr(import_module(f".{module}", __name__), name)
        setattr(_sys.modules[__name__], name, value)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})


def get_backend() -> str:
    """What keeps the log: ``"sled"``, the embedded one.

    Example:
        >>> cloaca.get_backend()
        'sled'
    """
    return "sled"


def hello_world() -> str:
    """Says that the package is there.

    Example:
        >>> cloaca.hello_world()
        'Hello from Cloaca backend!'
    """
    return "Hello from Cloaca backend!"


class HelloClass:
    """Says that classes of the package can be made.

    Example:
        >>> cloaca.HelloClass()
        HelloClass(message='Hello from HelloClass!')
    """

    def get_message(self) -> str:
        """A greeting.

        Example:
            >>> cloaca.HelloClass().get_message()
            'Hello from HelloClass!'
        """
        return "Hello from HelloClass!"

    def __repr__(self) -> str:
        return f"HelloClass(message='{self.get_message()}')"
