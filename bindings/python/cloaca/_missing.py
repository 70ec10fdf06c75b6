"""Names that Cloacina's Python API has and this package does not: why, and what is nearest."""

from __future__ import annotations

_GRAPH = (
    "computation graphs (reactors, accumulators, nodes) are not part of this package; the nearest is a workflow that a "
    "trigger starts: @cloaca.trigger(on=...)"
)
_DATABASE = (
    "there is no database to administer; the nearest is a log for each tenant: "
    "cloaca.DefaultRunner.with_schema(url, tenant)"
)
_DECORATOR = "is a class for internal use there; here {0} returns a plain function: annotate it with Callable"
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
        "packaged providers are not loaded here; the nearest is a function of a module that you import, decorated with "
        "@cloaca.task"
    ),
    "workflow_secrets": (
        "the log keeps every value of a context, so a secret does not belong there; the nearest is cloaca.var(name), "
        "which a task reads from the environment when it runs"
    ),
    "TaskDecorator": f"it {_DECORATOR.format('cloaca.task(...)')}",
    "TriggerDecorator": f"it {_DECORATOR.format('cloaca.trigger(...)')}",
    "WorkflowParamsDecorator": f"it {_DECORATOR.format('cloaca.workflow_params(...)')}",
    "WorkflowSecretsDecorator": "the log keeps every value of a context; the nearest is cloaca.var(name)",
}


def message(name: str) -> str:
    """What to say of a name that the package does not have."""
    reason = _REASONS.get(name)
    hint = "" if reason is None else f": {reason}"
    return f"module 'cloaca' has no attribute '{name}'{hint}"


def import_message(name: str) -> str | None:
    """What ``from cloaca import name`` says of a name of Cloacina's; ``None`` if it is not one."""
    reason = _REASONS.get(name)
    return None if reason is None else f"cannot import name '{name}' from 'cloaca': {reason}"
