"""Names of Cloacina's Python API that this package lacks, with the reason and an alternative."""

from __future__ import annotations

from collections.abc import Sequence

from ._cloaca import nearest

_GRAPH = (
    "computation graphs (reactors, accumulators, nodes) are not supported; use a workflow that a trigger starts: "
    "@cloaca.trigger(on=...)"
)
_DATABASE = "there is no database to administer; use one log per tenant: cloaca.DefaultRunner.with_schema(url, tenant)"
_DECORATOR = "is an internal class in Cloacina; {0} returns a plain function: annotate it with Callable"
_REASONS = {
    "reactor": _GRAPH,
    "node": _GRAPH,
    "ComputationGraphBuilder": _GRAPH,
    "passthrough_accumulator": _GRAPH,
    "stream_accumulator": _GRAPH,
    "polling_accumulator": _GRAPH,
    "batch_accumulator": _GRAPH,
    "state_accumulator": _GRAPH,
    "boundary_schema": _GRAPH,
    "DatabaseAdmin": _DATABASE,
    "TenantConfig": _DATABASE,
    "TenantCredentials": _DATABASE,
    "constructor": (
        "packaged providers are not supported; import a module with functions that are decorated with @cloaca.task"
    ),
    "workflow_secrets": (
        "the log stores every context value, so secrets do not belong in a context; use cloaca.var(name) in the task, "
        "which reads the environment"
    ),
    "TaskDecorator": f"it {_DECORATOR.format('cloaca.task(...)')}",
    "TriggerDecorator": f"it {_DECORATOR.format('cloaca.trigger(...)')}",
    "WorkflowParamsDecorator": f"it {_DECORATOR.format('cloaca.workflow_params(...)')}",
    "WorkflowSecretsDecorator": "the log stores every context value; use cloaca.var(name) for secrets",
}
# Keyword arguments of Cloacina's decorators that those here lack.
_KEYWORDS = {"invokes": _GRAPH, "post_invocation": _GRAPH}
# Methods of Cloacina's runner that the one here lacks.
_METHODS = {
    "subscribe_workflow_to_reactor": _GRAPH,
    "unsubscribe_workflow_from_reactor": _GRAPH,
    "list_reactor_subscriptions": _GRAPH,
}


def message(name: str) -> str:
    """Return the AttributeError message for a name that the package does not have."""
    reason = _REASONS.get(name)
    hint = "" if reason is None else f": {reason}"
    return f"module 'cloaca' has no attribute '{name}'{hint}"


def import_message(name: str) -> str | None:
    """Return the ImportError message of ``from cloaca import name`` for a name of Cloacina's; ``None`` for others."""
    reason = _REASONS.get(name)
    return None if reason is None else f"cannot import name '{name}' from 'cloaca': {reason}"


def method_message(owner: str, name: str) -> str:
    """Return the AttributeError message for a method that a runner does not have."""
    reason = _METHODS.get(name)
    hint = "" if reason is None else f": {reason}"
    return f"'{owner}' object has no attribute '{name}'{hint}"


def keyword_message(function: str, name: str, known: Sequence[str]) -> str:
    """Return the TypeError message for a keyword argument that a function does not have."""
    reason = _KEYWORDS.get(name)
    near = None if reason else nearest(name, known)
    hint = f": {reason}" if reason else f"; did you mean '{near}'?" if near else ""
    return f"{function} has no argument '{name}'{hint}"
