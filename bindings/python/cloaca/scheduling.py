"""Cron schedules and triggers of a runner."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

from ._cloaca import Context
from .literals import Catchup

if TYPE_CHECKING:
    from ._schedules import Schedules

__all__ = ["CronExecution", "CronSchedule", "CronStats", "Scheduling", "TriggerExecution", "TriggerSchedule"]


class CronSchedule(TypedDict):
    """A cron schedule. Times are RFC 3339 strings in UTC.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     schedule_id = runner.register_cron_workflow("report", "0 9 * * MON-FRI", "Europe/Berlin")
        ...     schedule = runner.get_cron_schedule(schedule_id)
        >>> schedule["cron_expression"], schedule["enabled"], schedule["catchup_policy"], schedule["last_run_at"]
        ('0 9 * * MON-FRI', True, 'skip', None)
    """

    id: str
    """The schedule's id, a UUID."""
    workflow_name: str
    """The workflow that it starts."""
    cron_expression: str
    """The cron expression."""
    timezone: str
    """The IANA time zone of the expression."""
    enabled: bool
    """Whether it is enabled; a disabled schedule does not fire."""
    catchup_policy: Catchup
    """``"skip"`` or ``"run_all"``."""
    next_run_at: str | None
    """When it fires next; ``None`` if it is disabled, or the expression matches no later time."""
    last_run_at: str | None
    """When it last fired; ``None`` if it never has."""
    created_at: str
    """When it was created."""
    updated_at: str
    """When it was last changed by a caller. Firing does not count."""
    name: str | None
    """The name that it was given; ``None`` if it has none."""
    context: dict[str, Any]
    """The input of each execution."""
    is_registered: bool
    """Whether the workflow is registered with this runner; the schedule does not fire otherwise."""


class CronExecution(TypedDict):
    """A fire of a cron schedule. Times are RFC 3339 strings in UTC.

    Example:
        >>> clock = cloaca.testing.VirtualClock(1_769_850_000.0)  # 2026-01-31, 09:00
        >>> with cloaca.WorkflowBuilder("report"):
        ...     @cloaca.task
        ...     def write(context):
        ...         context["written for"] = context["scheduled_time"]
        >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
        ...     schedule_id = runner.register_cron_workflow("report", "30 9 * * *", "UTC")
        ...     clock.advance(3600)
        ...     [fire] = runner.get_cron_execution_history(schedule_id)
        >>> fire["scheduled_time"], fire["schedule_id"] == schedule_id
        ('2026-01-31T09:30:00.000000+00:00', True)
    """

    id: str
    """The id of the fire, which is that of its execution."""
    schedule_id: str
    """The schedule's id."""
    scheduled_time: str
    """The time for which it fired."""
    claimed_at: str
    """When it fired; later than ``scheduled_time`` if it was caught up."""
    workflow_execution_id: str
    """The id of the execution that it started."""
    pipeline_execution_id: str
    """The same as ``workflow_execution_id``."""
    created_at: str
    """When it fired."""
    updated_at: str
    """When the execution ended; while it is running, when it fired."""


class CronStats(TypedDict):
    """Statistics over the fires of all schedules.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     runner.get_cron_execution_stats("2026-01-01T00:00:00Z")
        {'total_executions': 0, 'successful_executions': 0, 'lost_executions': 0, 'success_rate': 0.0}
    """

    total_executions: int
    """The number of executions, without those pruned from the log."""
    successful_executions: int
    """The number of executions that completed."""
    lost_executions: int
    """The number of executions missing from the log. Always 0: a fire and its execution are written atomically."""
    success_rate: float
    """The share of executions that completed, in percent; 0 if there are no executions."""


class TriggerSchedule(TypedDict):
    """A trigger and its state.

    Example:
        >>> @cloaca.trigger(on="import_file", poll_interval="30s")
        ... def inbox():
        ...     return False
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     [schedule] = runner.list_trigger_schedules()
        >>> schedule["trigger_name"], schedule["workflow_name"], schedule["poll_interval_ms"], schedule["enabled"]
        ('inbox', 'import_file', 30000, True)
    """

    trigger_name: str
    """The trigger's name."""
    workflow_name: str
    """The workflow that it starts."""
    poll_interval_ms: int | None
    """The poll interval in milliseconds; ``None`` if it is polled by a cron expression."""
    allow_concurrent: bool
    """Whether it may start an execution while one with an equal context is running."""
    enabled: bool
    """Whether it is enabled; a disabled trigger is not polled."""
    last_poll_at: str | None
    """When this runner last polled it (RFC 3339, UTC). Polls are not recorded in the log."""
    is_registered: bool
    """Whether the workflow is registered with this runner; the trigger is not polled otherwise."""


class TriggerExecution(TypedDict):
    """A fire of a trigger. Times are RFC 3339 strings in UTC.

    Example:
        >>> files = ["a.csv"]
        >>> @cloaca.trigger(on="import_file", poll_interval="10ms")
        ... def inbox():
        ...     return cloaca.TriggerResult.fire({"file": files.pop()}) if files else cloaca.TriggerResult.skip()
        >>> with cloaca.WorkflowBuilder("import_file"):
        ...     @cloaca.task
        ...     def read(context): ...
        >>> clock = cloaca.testing.VirtualClock()
        >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
        ...     clock.advance(1)
        ...     [fire] = runner.get_trigger_execution_history("inbox")
        ...     runner.get_execution(fire["workflow_execution_id"]).result().final_context
        Context({"file":"a.csv"})
    """

    started_at: str
    """When it fired."""
    completed_at: str | None
    """When the execution ended."""
    context_hash: str
    """SHA-256 of the context that it fired with, in hex digits."""
    workflow_execution_id: str
    """The id of the execution that it started."""
    pipeline_execution_id: str
    """The same as ``workflow_execution_id``."""


class Scheduling:
    """The methods of a [`DefaultRunner`][cloaca.DefaultRunner] for cron schedules and triggers.

    Example:
        >>> with cloaca.WorkflowBuilder("report"):
        ...     @cloaca.task
        ...     def write(context):
        ...         context["written for"] = context["scheduled_time"]
        >>> clock = cloaca.testing.VirtualClock(1_769_850_000.0)  # 2026-01-31, 09:00
        >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
        ...     schedule_id = runner.register_cron_workflow("report", "@daily", "UTC")
        ...     clock.advance(24 * 3600)
        ...     runner.get_cron_execution_stats("2026-01-01T00:00:00Z")["total_executions"]
        1
    """

    def __init__(self, schedules: Schedules) -> None:
        self._schedules = schedules

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            from ._missing import method_message

            raise AttributeError(method_message(type(self).__name__, name), name=name, obj=self)

    def register_cron_workflow(
        self,
        workflow_name: str,
        cron_expression: str,
        timezone: str,
        *,
        context: Context | Mapping[str, Any] | None = None,
        catchup: Catchup = "skip",
        name: str | None = None,
    ) -> str:
        """Create a schedule that starts the workflow at every time that matches the cron expression.

        The schedule is stored in the log and outlives the process; each call creates another schedule. A schedule
        never fires twice for the same time, even if the process crashes. While the workflow is not registered, due
        times count as missed.

        **Daylight saving time.** An expression with one fixed time of day (``30 2 * * *``) fires once a day: if the
        time falls into the skipped hour, at the first moment after it; if the time occurs twice, at the first
        occurrence. Any other expression (``*/15 * * * *``, ``0 1,2 * * *``) follows the wall clock: it does not fire
        in the skipped hour, and fires in both passes of the repeated one.

        Args:
            workflow_name: The workflow to start.
            cron_expression: Five fields (minute, hour, day of month, month, day of week), or six, with the second
                first; or ``@yearly``, ``@annually``, ``@monthly``, ``@weekly``, ``@daily``, ``@midnight`` or
                ``@hourly``.
            timezone: The IANA time zone of the expression, like ``"UTC"`` or ``"Europe/Berlin"``.
            context: The input of each execution. The keys ``schedule_id``, ``schedule_expression``,
                ``schedule_timezone`` and ``scheduled_time`` (RFC 3339, UTC) are added to it.
            catchup: How to handle times missed while no runner was open: ``"skip"`` them, or ``"run_all"`` of them
                late, oldest first, at most ``cron_max_catchup_executions``.
            name: A name to distinguish the schedule from others of the same workflow. It need not be unique.

        Returns:
            The schedule's id.

        Raises:
            ValueError: ``Failed to register cron workflow: …``, followed by the reason. One reason is an input that
                does not match what the workflow declares with [`workflow_params`][cloaca.workflow_params].

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "0 9 * * MON-FRI", "Europe/Berlin")
            ...     runner.get_cron_schedule(schedule_id)["timezone"]
            'Europe/Berlin'
        """
        return self._schedules.create(workflow_name, cron_expression, timezone, context, catchup, name)

    def register_workflow_instance(
        self,
        workflow_name: str,
        instance_name: str,
        cron_expression: str,
        timezone: str,
        params: Context | Mapping[str, Any],
    ) -> str:
        """Create a schedule with a name and an input: an instance of a workflow.

        The name is unique within the workflow. Registering the same instance again returns the existing schedule, so
        a program can register its instances at every start. For the details see
        [`register_cron_workflow`][cloaca.scheduling.Scheduling.register_cron_workflow].

        Args:
            workflow_name: The workflow to start.
            instance_name: The schedule's name.
            cron_expression: The cron expression.
            timezone: The IANA time zone of the expression.
            params: The input of each execution.

        Returns:
            The schedule's id.

        Raises:
            ValueError: ``Failed to register workflow instance: …``, if an instance of this name exists with another
                expression, time zone or input; also as in ``register_cron_workflow``.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     north = runner.register_workflow_instance("report", "north", "@daily", "UTC", {"region": "north"})
            ...     south = runner.register_workflow_instance("report", "south", "@daily", "UTC", {"region": "south"})
            ...     again = runner.register_workflow_instance("report", "north", "@daily", "UTC", {"region": "north"})
            ...     north == again, north == south, runner.get_cron_schedule(north)["name"]
            (True, False, 'north')
        """
        return self._schedules.create_instance(workflow_name, instance_name, cron_expression, timezone, params)

    def list_cron_schedules(
        self, enabled_only: bool | None = None, limit: int | None = None, offset: int | None = None
    ) -> list[CronSchedule]:
        """Return the schedules, newest first. Deleted ones are not included.

        Args:
            enabled_only: Whether to return only enabled schedules.
            limit: The maximum number of schedules; ``None`` returns all.
            offset: The number of schedules to skip.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     daily = runner.register_cron_workflow("report", "@daily", "UTC")
            ...     hourly = runner.register_cron_workflow("report", "@hourly", "UTC")
            ...     runner.set_cron_schedule_enabled(hourly, False)
            ...     [schedule["cron_expression"] for schedule in runner.list_cron_schedules()]
            ...     [schedule["cron_expression"] for schedule in runner.list_cron_schedules(enabled_only=True)]
            ['@hourly', '@daily']
            ['@daily']
        """
        return self._schedules.schedules(enabled_only, limit, offset)

    def get_cron_schedule(self, schedule_id: str) -> CronSchedule:
        """Return a schedule.

        Raises:
            ValueError: ``Invalid schedule ID: …``; ``Failed to get cron schedule: …``, if it does not exist or was
                deleted.

        Example:
            >>> with cloaca.testing.Runner(":memory:", clock=cloaca.testing.VirtualClock(1_769_850_000.0)) as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "0 9 * * *", "Europe/Berlin")
            ...     runner.get_cron_schedule(schedule_id)["next_run_at"]
            '2026-02-01T08:00:00.000000+00:00'
        """
        return self._schedules.schedule(schedule_id)

    def update_cron_schedule(self, schedule_id: str, cron_expression: str, timezone: str) -> None:
        """Change the expression and time zone of a schedule.

        Raises:
            ValueError: ``Invalid schedule ID: …``; ``Failed to update cron schedule: …``. The schedule is unchanged.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "@daily", "UTC")
            ...     runner.update_cron_schedule(schedule_id, "@hourly", "Europe/Berlin")
            ...     runner.get_cron_schedule(schedule_id)["cron_expression"]
            '@hourly'
        """
        self._schedules.update(schedule_id, cron_expression, timezone)

    def set_cron_schedule_enabled(self, schedule_id: str, enabled: bool) -> None:
        """Enable or disable a schedule. Times that pass while it is disabled are not caught up.

        Raises:
            ValueError: ``Invalid schedule ID: …``; ``Failed to update cron schedule: …``.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "@daily", "UTC")
            ...     runner.set_cron_schedule_enabled(schedule_id, False)
            ...     print(runner.get_cron_schedule(schedule_id)["next_run_at"])
            None
        """
        self._schedules.enable(schedule_id, enabled)

    def delete_cron_schedule(self, schedule_id: str) -> None:
        """Delete a schedule: it no longer fires and is no longer listed. Its history stays in the log.

        Raises:
            ValueError: ``Invalid schedule ID: …``; ``Failed to delete cron schedule: …``.

        Example:
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "@daily", "UTC")
            ...     runner.delete_cron_schedule(schedule_id)
            ...     runner.list_cron_schedules()
            []
        """
        self._schedules.delete(schedule_id)

    def get_cron_execution_history(
        self, schedule_id: str, limit: int | None = None, offset: int | None = None
    ) -> list[CronExecution]:
        """Return the fires of a schedule, newest first. Works for deleted schedules too.

        Args:
            schedule_id: The schedule's id.
            limit: The maximum number of fires; ``None`` returns all.
            offset: The number of fires to skip.

        Raises:
            ValueError: ``Invalid schedule ID: …``; ``Failed to get cron execution history: …``.

        Example:
            >>> clock = cloaca.testing.VirtualClock(1_769_850_000.0)  # 2026-01-31, 09:00
            >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
            ...     schedule_id = runner.register_cron_workflow("report", "@hourly", "UTC")
            ...     clock.advance(2.5 * 3600)
            ...     for fire in runner.get_cron_execution_history(schedule_id):
            ...         fire["scheduled_time"]
            ...         runner.get_execution(fire["workflow_execution_id"]).result().status
            '2026-01-31T11:00:00.000000+00:00'
            'Completed'
            '2026-01-31T10:00:00.000000+00:00'
            'Completed'
        """
        return self._schedules.fires(schedule_id, limit, offset)

    def get_cron_execution_stats(self, since: str | datetime) -> CronStats:
        """Return statistics over the fires of all schedules since a time.

        Args:
            since: An RFC 3339 string with an offset, or a `datetime.datetime` with a time zone.

        Raises:
            ValueError: ``Invalid datetime format: …``.

        Example:
            >>> from datetime import datetime, timedelta, timezone
            >>> yesterday = datetime.now(timezone.utc) - timedelta(days=1)
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.get_cron_execution_stats(yesterday.isoformat())["total_executions"]
            0
        """
        return self._schedules.stats(since)

    def list_trigger_schedules(
        self, enabled_only: bool | None = None, limit: int | None = None, offset: int | None = None
    ) -> list[TriggerSchedule]:
        """Return the triggers recorded in the log, sorted by name: those of this process and of earlier ones.

        Args:
            enabled_only: Whether to return only enabled triggers.
            limit: The maximum number of triggers; ``None`` returns all.
            offset: The number of triggers to skip.

        Example:
            >>> @cloaca.trigger(on="report", poll_interval="1m")
            ... def disk_full():
            ...     return False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     [trigger["trigger_name"] for trigger in runner.list_trigger_schedules()]
            ['disk_full']
        """
        return self._schedules.triggers(enabled_only, limit, offset)

    def get_trigger_schedule(self, trigger_name: str) -> TriggerSchedule | None:
        """Return a trigger; ``None`` if the log has no trigger of this name.

        Example:
            >>> @cloaca.trigger(on="report", cron="0 9 * * *", timezone="Europe/Berlin")
            ... def month_end():
            ...     return False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.get_trigger_schedule("month_end")["workflow_name"]
            ...     print(runner.get_trigger_schedule("year_end"))
            'report'
            None
        """
        return self._schedules.trigger(trigger_name)

    def set_trigger_enabled(self, trigger_name: str, enabled: bool) -> None:
        """Enable or disable a trigger, in this process and in later ones.

        Raises:
            ValueError: ``Failed to update trigger: …``, if the log has no trigger of this name.

        Example:
            >>> @cloaca.trigger(on="report")
            ... def disk_full():
            ...     return False
            >>> with cloaca.DefaultRunner(":memory:") as runner:
            ...     runner.set_trigger_enabled("disk_full", False)
            ...     runner.list_trigger_schedules(enabled_only=True)
            []
        """
        self._schedules.enable_trigger(trigger_name, enabled)

    def get_trigger_execution_history(
        self, trigger_name: str, limit: int | None = None, offset: int | None = None
    ) -> list[TriggerExecution]:
        """Return the fires of a trigger that started executions, newest first; none if the log has no such trigger.

        Args:
            trigger_name: The trigger's name.
            limit: The maximum number of fires; ``None`` returns all.
            offset: The number of fires to skip.

        Example:
            >>> days = ["2026-01-30", "2026-01-31"]
            >>> @cloaca.trigger(on="day", poll_interval="1m")
            ... def closed():
            ...     return cloaca.TriggerResult.fire({"day": days.pop(0)}) if days else cloaca.TriggerResult.skip()
            >>> with cloaca.WorkflowBuilder("day"):
            ...     @cloaca.task
            ...     def add_up(context): ...
            >>> clock = cloaca.testing.VirtualClock()
            >>> with cloaca.testing.Runner(":memory:", clock=clock) as runner:
            ...     clock.advance(180)
            ...     fires = runner.get_trigger_execution_history("closed")
            ...     results = [runner.get_execution(fire["workflow_execution_id"]).result() for fire in fires]
            >>> [result.final_context["day"] for result in results]
            ['2026-01-31', '2026-01-30']
        """
        return self._schedules.trigger_fires(trigger_name, limit, offset)
