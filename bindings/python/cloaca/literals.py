"""The words that arguments take and results have, as types: a type checker names the line of a misspelt one.

>>> import typing, cloaca.literals
>>> typing.get_args(cloaca.literals.Backoff)
('fixed', 'linear', 'exponential')
"""

from __future__ import annotations

from typing import Literal, TypeAlias

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

Backend: TypeAlias = Literal["sqlite", "postgres"]
"""What [`get_backend`][cloaca.get_backend] returns."""

Backoff: TypeAlias = Literal["fixed", "linear", "exponential"]
"""``retry_backoff`` of [`task`][cloaca.task]."""

RetryWhen: TypeAlias = Literal["never", "transient", "all"]
"""``retry_condition`` of [`task`][cloaca.task], where it is a word."""

Rule: TypeAlias = Literal["none_failed", "all_success", "all_done", "all_failed", "one_success", "one_failed", "always"]
"""``trigger_rule`` of [`task`][cloaca.task]."""

Isolation: TypeAlias = Literal["thread", "process"]
"""``isolation`` of [`task`][cloaca.task]."""

Catchup: TypeAlias = Literal["skip", "run_all"]
"""``catchup`` of a cron schedule."""

ExecutionStatus: TypeAlias = Literal["Pending", "Running", "Paused", "Completed", "Failed", "Cancelled"]
"""How an execution stands."""

TaskStatus: TypeAlias = Literal["Pending", "Running", "WaitingRetry", "Completed", "Failed", "Skipped", "Cancelled"]
"""How a task of an execution stands."""

Operator: TypeAlias = Literal[
    "Equals", "NotEquals", "GreaterThan", "LessThan", "Contains", "NotContains", "Exists", "NotExists",
    "equals", "not_equals", "greater_than", "less_than", "contains", "not_contains", "exists", "not_exists",
    "notequals", "greaterthan", "lessthan", "notcontains", "notexists",
    "EQUALS", "NOT_EQUALS", "GREATER_THAN", "LESS_THAN", "CONTAINS", "NOT_CONTAINS", "EXISTS", "NOT_EXISTS",
    "==", "!=", ">", "<", "eq", "ne", "gt", "lt", "EQ", "NE", "GT", "LT", "equal", "not_equal", "notequal",
]  # fmt: skip
"""``operator`` of [`context_value`][cloaca.context_value], in the usual spellings."""
