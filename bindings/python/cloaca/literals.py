"""The words that arguments take and results have, as types: a type checker names the line of a misspelt one.

>>> import cloaca
>>> def with_backoff(backoff: cloaca.literals.Backoff):
...     return cloaca.task(retry_backoff=backoff)
"""

from __future__ import annotations

from typing import Literal, TypeAlias

# Unions of single words: `stubtest` compares what a checker makes of an alias with the alias.

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
"""What ``cloaca.get_backend()`` returns."""

Backoff: TypeAlias = Literal["fixed"] | Literal["linear"] | Literal["exponential"]
"""``retry_backoff`` of [`task`][cloaca.task]."""

RetryWhen: TypeAlias = Literal["never"] | Literal["transient"] | Literal["all"]
"""``retry_condition`` of [`task`][cloaca.task], where it is a word."""

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
"""How an execution stands. ``Pending`` is a word of Cloacina's, for programs that compare with it."""

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
"""How a task of an execution stands."""

Operator: TypeAlias = (
    Literal["Equals", "NotEquals", "GreaterThan", "LessThan", "Contains", "NotContains", "Exists", "NotExists"]
    | Literal["equals", "not_equals", "greater_than", "less_than", "contains", "not_contains", "exists", "not_exists"]
    | Literal["EQUALS", "NOT_EQUALS", "GREATER_THAN", "LESS_THAN", "CONTAINS", "NOT_CONTAINS", "EXISTS", "NOT_EXISTS"]
    | Literal["notequals", "greaterthan", "lessthan", "notcontains", "notexists", "equal", "not_equal", "notequal"]
    | Literal["==", "!=", ">", "<", "eq", "ne", "gt", "lt", "EQ", "NE", "GT", "LT"]
)
"""``operator`` of [`context_value`][cloaca.context_value], in the usual spellings."""
