"""The schedules and triggers of an engine, as values of the public types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ._cloaca import Context, NativeScheduling
from ._times import micros, optional_rfc3339, rfc3339
from .errors import WorkflowInputError
from .workflow import workflows

if TYPE_CHECKING:
    from ._cloaca import RawFire, RawSchedule, RawTrigger, RawTriggerFire
    from .literals import Catchup
    from .scheduling import CronExecution, CronSchedule, CronStats, TriggerExecution, TriggerSchedule

Entry = TypeVar("Entry")


class SchedulingHost(Protocol):
    """The owner of the engine's schedules. They are replaced when the host reopens its log."""

    @property
    def scheduling(self) -> NativeScheduling: ...


class Schedules:
    """Creates, reads and changes the schedules and triggers of a host. See `Scheduling` for the arguments."""

    __slots__ = ("_host",)

    def __init__(self, host: SchedulingHost) -> None:
        self._host = host

    def create(
        self,
        workflow_name: str,
        cron_expression: str,
        timezone: str,
        context: Context | Mapping[str, Any] | None,
        catchup: Catchup = "skip",
        name: str | None = None,
    ) -> str:
        """Create a schedule, and return its id."""
        for value in (workflow_name, cron_expression, timezone, catchup, *(() if name is None else (name,))):
            if not isinstance(value, str):
                raise TypeError(f"workflow_name, cron_expression, timezone, catchup, name must be str, not {value!r}")
        context = context if isinstance(context, Context) else Context(context)
        context = _with_defaults(workflow_name, context)
        return self._host.scheduling.create(workflow_name, cron_expression, timezone, context, catchup, name)

    def create_instance(
        self,
        workflow_name: str,
        instance_name: str,
        cron_expression: str,
        timezone: str,
        params: Context | Mapping[str, Any],
    ) -> str:
        """Create a schedule with a unique name, and return its id; that of an equal schedule if there is one."""
        if not isinstance(instance_name, str) or not instance_name:
            raise ValueError(
                f"Failed to register workflow instance: its name must be a non-empty str, not {instance_name!r}"
            )
        context = params if isinstance(params, Context) else Context(params)
        for schedule in self.schedules():
            if (schedule["workflow_name"], schedule["name"]) == (workflow_name, instance_name):
                return _matching_id(schedule, cron_expression, timezone, _with_defaults(workflow_name, context))
        return self.create(workflow_name, cron_expression, timezone, context, name=instance_name)

    def schedules(
        self, enabled_only: bool | None = None, limit: int | None = None, offset: int | None = None
    ) -> list[CronSchedule]:
        """Return a page of the schedules, newest first."""
        found = [_schedule(raw) for raw in self._host.scheduling.list()]
        return _page([one for one in found if one["enabled"] or not enabled_only], limit, offset)

    def schedule(self, schedule_id: str) -> CronSchedule:
        """Return a schedule."""
        return _schedule(self._host.scheduling.get(schedule_id))

    def update(self, schedule_id: str, cron_expression: str, timezone: str) -> None:
        """Change the expression and time zone of a schedule."""
        self._host.scheduling.update(schedule_id, cron_expression, timezone)

    def enable(self, schedule_id: str, enabled: bool) -> None:
        """Enable or disable a schedule."""
        self._host.scheduling.enable(schedule_id, enabled)

    def delete(self, schedule_id: str) -> None:
        """Delete a schedule."""
        self._host.scheduling.delete(schedule_id)

    def fires(self, schedule_id: str, limit: int | None, offset: int | None) -> list[CronExecution]:
        """Return a page of a schedule's fires, newest first."""
        limit, offset = _bounds(limit, offset)
        return [_execution(schedule_id, raw) for raw in self._host.scheduling.history(schedule_id, limit, offset)]

    def stats(self, since: str | datetime) -> CronStats:
        """Return statistics over the fires of all schedules since a time."""
        total, successful, lost = self._host.scheduling.stats(_micros(since))
        return {
            "total_executions": total,
            "successful_executions": successful,
            "lost_executions": lost,
            "success_rate": 100.0 * successful / total if total else 0.0,
        }

    def triggers(self, enabled_only: bool | None, limit: int | None, offset: int | None) -> list[TriggerSchedule]:
        """Return a page of the triggers, sorted by name."""
        found = [_trigger(raw) for raw in self._host.scheduling.triggers()]
        return _page([one for one in found if one["enabled"] or not enabled_only], limit, offset)

    def trigger(self, name: str) -> TriggerSchedule | None:
        """Return a trigger; ``None`` if the log has no trigger of this name."""
        found = (_trigger(raw) for raw in self._host.scheduling.triggers() if raw["name"] == name)
        return next(found, None)

    def enable_trigger(self, name: str, enabled: bool) -> None:
        """Enable or disable a trigger."""
        self._host.scheduling.enable_trigger(name, enabled)

    def trigger_fires(self, name: str, limit: int | None, offset: int | None) -> list[TriggerExecution]:
        """Return a page of a trigger's fires, newest first."""
        limit, offset = _bounds(limit, offset)
        return [_trigger_execution(raw) for raw in self._host.scheduling.trigger_history(name, limit, offset)]


def _with_defaults(workflow_name: str, context: Context) -> Context:
    """Return a schedule's input with the defaults that its workflow declares."""
    workflow = workflows.find(workflow_name)
    if workflow is None:
        return context
    try:
        return workflow._inputs.complete(workflow_name, context, by_schedule=True)
    except WorkflowInputError as error:
        raise WorkflowInputError(f"Failed to register cron workflow: {error}", workflow=workflow_name) from None


def _matching_id(schedule: CronSchedule, cron_expression: str, timezone: str, context: Context) -> str:
    """Return the id of an existing schedule that is registered again.

    Raises:
        ValueError: It has another expression, time zone or input.
    """
    existing = (schedule["cron_expression"], schedule["timezone"], schedule["context"])
    requested = (cron_expression, timezone, context.to_dict())
    names = ("expression", "time zone", "input")
    differences = [name for name, old, new in zip(names, existing, requested, strict=True) if old != new]
    if differences:
        raise ValueError(
            f"Failed to register workflow instance: workflow '{schedule['workflow_name']}' already has the schedule "
            f"'{schedule['name']}' ({schedule['id']}) with another {' and '.join(differences)}; update or delete it"
        )
    return schedule["id"]


def _schedule(raw: RawSchedule) -> CronSchedule:
    return {
        "id": raw["id"],
        "workflow_name": raw["workflow_name"],
        "cron_expression": raw["expression"],
        "timezone": raw["timezone"],
        "enabled": raw["enabled"],
        "catchup_policy": raw["catchup"],
        "next_run_at": optional_rfc3339(raw["next"]),
        "last_run_at": optional_rfc3339(raw["last_run"]),
        "created_at": rfc3339(raw["created"]),
        "updated_at": rfc3339(raw["updated"]),
        "name": raw["name"],
        "context": raw["context"],
        "is_registered": raw["is_registered"],
    }


def _execution(schedule_id: str, raw: RawFire) -> CronExecution:
    fired = rfc3339(raw["fired"])
    return {
        "id": raw["execution_id"],
        "schedule_id": schedule_id,
        "scheduled_time": rfc3339(raw["scheduled"]),
        "claimed_at": fired,
        "workflow_execution_id": raw["execution_id"],
        "pipeline_execution_id": raw["execution_id"],
        "created_at": fired,
        "updated_at": optional_rfc3339(raw["ended"]) or fired,
    }


def _trigger(raw: RawTrigger) -> TriggerSchedule:
    return {
        "trigger_name": raw["name"],
        "workflow_name": raw["workflow_name"],
        "poll_interval_ms": raw["interval_ms"],
        "allow_concurrent": raw["allow_concurrent"],
        "enabled": raw["enabled"],
        "last_poll_at": optional_rfc3339(raw["last_poll"]),
        "is_registered": raw["is_registered"],
    }


def _trigger_execution(raw: RawTriggerFire) -> TriggerExecution:
    return {
        "started_at": rfc3339(raw["started"]),
        "completed_at": optional_rfc3339(raw["ended"]),
        "context_hash": raw["context_hash"],
        "workflow_execution_id": raw["execution_id"],
        "pipeline_execution_id": raw["execution_id"],
    }


def _bounds(limit: object, offset: object) -> tuple[int | None, int]:
    checked: list[int | None] = []
    for name, value in (("limit", limit), ("offset", offset)):
        if value is None:
            checked.append(None)
        elif isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name} must be an int of at least 0, or None, not {value!r}")
        else:
            checked.append(min(value, 2**53))
    return checked[0], checked[1] or 0


def _page(entries: Sequence[Entry], limit: int | None, offset: int | None) -> list[Entry]:
    limit, offset = _bounds(limit, offset)
    return list(entries[offset:] if limit is None else entries[offset : offset + limit])


def _micros(since: str | datetime) -> int:
    if isinstance(since, datetime):
        time = since
    else:
        try:
            # Before Python 3.11, fromisoformat does not accept the suffix Z.
            time = datetime.fromisoformat(since.replace("Z", "+00:00").replace("z", "+00:00"))
        except (ValueError, AttributeError):
            raise ValueError(
                f"Invalid datetime format: {since!r} is not an RFC 3339 time like '2026-01-31T09:00:00+00:00'"
            ) from None
    if time.tzinfo is None:
        raise ValueError(f"Invalid datetime format: {since!r} has no time zone; use datetime.now(timezone.utc)")
    return micros(time)
