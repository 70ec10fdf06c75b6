"""Workflows of Python functions, kept in an event log.

Every change of an execution's state is an event in an append-only log. All other state is computed from these events:
the running engine, crash recovery and the debugger ``replay`` use the same function.

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
from ._variables import var, var_or
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
    NoSlotLeftError,
    NotJsonError,
    OperationError,
    PermanentError,
    ReturnedTypeError,
    TaskTimeoutError,
    UndeclaredReadError,
    UnknownKeyError,
    WaitTimeoutError,
    WorkerDiedError,
    WorkerImportError,
    WorkerStartError,
    WorkflowFailedError,
    WorkflowInputError,
    WorkflowNotFoundError,
    WorkflowValidationError,
)
from .inputs import workflow_params
from .namespace import TaskNamespace, WorkflowContext
from .workflow import Workflow, WorkflowBuilder, register_workflow_constructor

if _typing.TYPE_CHECKING:
    from . import events, literals, testing
    from ._erased import Erased
    from .execution import Execution, ExecutionInfo
    from .history import History
    from .literals import Backend
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
    "Erased",
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
    "NoSlotLeftError",
    "NotJsonError",
    "OperationError",
    "PermanentError",
    "PipelineResult",
    "RetryCondition",
    "RetryPolicy",
    "RetryPolicyBuilder",
    "ReturnedTypeError",
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
    "WorkflowInputError",
    "WorkflowNotFoundError",
    "WorkflowResult",
    "WorkflowValidationError",
    "__backend__",
    "__version__",
    "all_of",
    "always",
    "any_of",
    "context_value",
    "events",
    "get_backend",
    "get_version",
    "hello_world",
    "literals",
    "none_of",
    "register_workflow_constructor",
    "task",
    "task_failed",
    "task_skipped",
    "task_success",
    "testing",
    "trigger",
    "var",
    "var_or",
    "workflow_params",
]

_MutableMapping.register(Context)

# Modules that need asyncio and logging are imported on first use: a program that only defines tasks starts faster.
_LAZY = {
    "DefaultRunner": "runner",
    "Erased": "_erased",
    "Execution": "execution",
    "ExecutionInfo": "execution",
    "History": "history",
    "PipelineResult": "result",
    "TaskResult": "result",
    "WorkflowResult": "result",
}

_MODULES = frozenset({"events", "literals", "testing"})


if not _typing.TYPE_CHECKING:
    # A type checker that sees __getattr__ would accept any name.

    def __getattr__(name: str) -> _typing.Any:
        from importlib import import_module

        module = _LAZY.get(name)
        if name in _MODULES:
            return import_module(f".{name}", __name__)
        if module is None:
            from ._missing import import_message, message

            # `from cloaca import name` drops the message of an AttributeError, so that statement gets an ImportError.
            caller = _sys._getframe(1)
            is_import = caller.f_globals.get("__name__") == "importlib._bootstrap"
            if is_import and (reason := import_message(name)) is not None:
                raise ImportError(reason, name=__name__, path=__file__)
            raise AttributeError(message(name), name=name, obj=_sys.modules[__name__])
        value = getattr(import_module(f".{module}", __name__), name)
        setattr(_sys.modules[__name__], name, value)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_MODULES})


__backend__: Backend = "sqlite"
"""The value of [`get_backend`][cloaca.get_backend]."""


def get_backend() -> Backend:
    """Return the scheme of supported database URLs: ``"sqlite"``, which stands for the event log in a directory.

    Programs written for Cloacina choose their database URL by it.

    Example:
        >>> cloaca.get_backend(), cloaca.__backend__
        ('sqlite', 'sqlite')
    """
    return __backend__


def get_version() -> str:
    """Return the version of the package.

    Example:
        >>> cloaca.get_version() == cloaca.__version__
        True
    """
    return __version__


def hello_world() -> str:
    """Return a greeting, to check that the package is installed.

    Example:
        >>> cloaca.hello_world()
        'Hello from Cloaca backend!'
    """
    return "Hello from Cloaca backend!"


class HelloClass:
    """A class to check that the package's classes can be instantiated.

    Example:
        >>> cloaca.HelloClass()
        HelloClass(message='Hello from HelloClass!')
    """

    def get_message(self) -> str:
        """Return a greeting.

        Example:
            >>> cloaca.HelloClass().get_message()
            'Hello from HelloClass!'
        """
        return "Hello from HelloClass!"

    def __repr__(self) -> str:
        return f"HelloClass(message='{self.get_message()}')"
