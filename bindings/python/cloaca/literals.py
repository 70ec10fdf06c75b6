"""Literal types for string arguments and results, so that type checkers report misspelled ones.

>>> import cloaca
>>> def with_backoff(backoff: cloaca.literals.Backoff):
...     return cloaca.task(retry_backoff=backoff)
"""

from __future__ import annotations

from typing import Literal, TypeAlias

# Unions of single literals, because `stubtest` compares an alias with the type checker's normalized form of it.

__all__ = [
    "Backend",
    "Backoff",
    "Catchup",
    "ExecutionStatus",
    "Isolation",
    "Operator",
    "RetryWhen",
    "Rule",
    "TaskStatus",
]

Backend: TypeAlias = Literal["sqlite"] | Literal["postgres"]
"""The return values of ``cloaca.get_backend()``."""

Backoff: TypeAlias = Literal["fixed"] | Literal["linear"] | Literal["exponential"]
"""``retry_backoff`` of [`task`][cloaca.task]."""

RetryWhen: TypeAlias = Literal["never"] | Literal["transient"] | Literal["all"]
"""``retry_condition`` of [`task`][cloaca.task], if it is a string."""

Rule: TypeAlias = (
    Literal["none_failed"]
    | Literal["all_success"]
    | Literal["all_done"]
    | Literal["all_failed"]
    | Literal["one_success"]
    | Literal["one_failed"]
    | Literal["always"]
)
"""``trigger_rule`` of [`task`][cloaca.task]."""

Isolation: TypeAlias = Literal["thread"] | Literal["process"]
"""``isolation`` of [`task`][cloaca.task]."""

Catchup: TypeAlias = Literal["skip"] | Literal["run_all"]
"""``catchup`` of a cron schedule."""

ExecutionStatus: TypeAlias = (
    Literal["Pending"]
    | Literal["Running"]
    | Literal["Waiting"]
    | Literal["Deferred"]
    | Literal["Blocked"]
    | Literal["Damaged"]
    | Literal["NotRunning"]
    | Literal["Paused"]
    | Literal["Completed"]
    | Literal["Failed"]
    | Literal["Cancelled"]
)
"""The status of an execution. ``Pending`` never occurs; it exists for programs written for Cloacina."""

TaskStatus: TypeAlias = (
    Literal["Pending"]
    | Literal["Running"]
    | Literal["Deferred"]
    | Literal["WaitingRetry"]
    | Literal["Completed"]
    | Literal["Failed"]
    | Literal["Skipped"]
    | Literal["Cancelled"]
)
"""The state of a task of an execution."""

Operator: TypeAlias = (
    Literal["Equals", "NotEquals", "GreaterThan", "LessThan", "Contains", "NotContains", "Exists", "NotExists"]
    | Literal["equals", "not_equals", "greater_than", "less_than", "contains", "not_contains", "exists", "not_exists"]
    | Literal["EQUALS", "NOT_EQUALS", "GREATER_THAN", "LESS_THAN", "CONTAINS", "NOT_CONTAINS", "EXISTS", "NOT_EXISTS"]
    | Literal["notequals", "greaterthan", "lessthan", "notcontains", "notexists", "equal", "not_equal", "notequal"]
    | Literal["==", "!=", ">", "<", "eq", "ne", "gt", "lt", "EQ", "NE", "GT", "LT"]
)
"""``operator`` of [`context_value`][cloaca.context_value], in the common spellings."""
