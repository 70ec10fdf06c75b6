"""Retry policies, namespaces, and the functions that show that the package is installed."""

from __future__ import annotations

import pickle

import cloaca
import pytest


def test_the_default_policy() -> None:
    policy = cloaca.RetryPolicy.default()
    assert (policy.max_attempts, policy.initial_delay, policy.max_delay, policy.with_jitter) == (3, 1.0, 60.0, True)
    assert [policy.calculate_delay(n) for n in (1, 2, 3, 30)] == [1.0, 2.0, 4.0, 60.0]
    assert policy.should_retry(1, ValueError("x"))
    assert policy.should_retry(2, "anything")
    assert not policy.should_retry(3, ValueError("x"))
    assert policy == cloaca.RetryPolicy.builder().build()


def test_a_builder_makes_a_policy_and_never_changes() -> None:
    builder = cloaca.RetryPolicy.builder()
    changed = (
        builder.max_attempts(5)
        .initial_delay(0.5)
        .max_delay(2)
        .backoff_strategy(cloaca.BackoffStrategy.linear(1.0))
        .retry_condition(cloaca.RetryCondition.transient_only())
        .with_jitter(False)
    )
    assert builder.build() == cloaca.RetryPolicy.default()
    policy = changed.build()
    assert [policy.calculate_delay(n) for n in (1, 2, 3, 9)] == [0.5, 1.0, 1.5, 2.0]
    assert policy.should_retry(1, TimeoutError())
    assert not policy.should_retry(1, ValueError())
    assert repr(policy) == (
        "RetryPolicy(max_attempts=5, initial_delay=0.5, max_delay=2.0, backoff=BackoffStrategy.linear(multiplier=1.0), "
        "condition=RetryCondition.transient_only(), with_jitter=False)"
    )
    assert cloaca.RetryPolicyBuilder().max_attempts(0).build().max_attempts == 1


@pytest.mark.parametrize(
    ("strategy", "delays"),
    [
        (cloaca.BackoffStrategy.fixed(), [1.0, 1.0, 1.0]),
        (cloaca.BackoffStrategy.linear(2.0), [1.0, 3.0, 5.0]),
        (cloaca.BackoffStrategy.exponential(3.0), [1.0, 3.0, 9.0]),
        (cloaca.BackoffStrategy.exponential(2.0, 0.5), [0.5, 1.0, 2.0]),
    ],
)
def test_how_backoff_grows(strategy: cloaca.BackoffStrategy, delays: list[float]) -> None:
    policy = cloaca.RetryPolicy.builder().backoff_strategy(strategy).build()
    assert [policy.calculate_delay(n) for n in (1, 2, 3)] == delays


def test_which_errors_are_retried() -> None:
    def retries(condition: cloaca.RetryCondition, error: BaseException) -> bool:
        return cloaca.RetryPolicy.builder().retry_condition(condition).build().should_retry(1, error)

    assert not retries(cloaca.RetryCondition.never(), ValueError())
    assert retries(cloaca.RetryCondition.all_errors(), ValueError())
    pattern = cloaca.RetryCondition.error_pattern(["Deadlock", "busy"])
    assert retries(pattern, ValueError("a DEADLOCK was found"))
    assert not retries(pattern, ValueError("syntax error"))
    assert retries(cloaca.RetryCondition.error_types(["OSError"]), FileNotFoundError())


@pytest.mark.parametrize("number", [-1.0, float("nan"), float("inf")])
def test_invalid_delays_are_refused(number: float) -> None:
    with pytest.raises(ValueError, match="initial_delay must be a non-negative number"):
        cloaca.RetryPolicy.builder().initial_delay(number)
    with pytest.raises(ValueError, match="multiplier must be a non-negative number"):
        cloaca.BackoffStrategy.linear(number)


def test_a_task_has_a_full_name() -> None:
    namespace = cloaca.TaskNamespace("acme", "sales", "etl", "load")
    assert str(namespace) == "acme::sales::etl::load"
    assert repr(namespace) == "TaskNamespace('acme', 'sales', 'etl', 'load')"
    assert cloaca.TaskNamespace.from_string(str(namespace)) == namespace
    assert pickle.loads(pickle.dumps(namespace)) == namespace
    assert len({namespace, cloaca.TaskNamespace.from_string(str(namespace))}) == 1
    sibling = cloaca.TaskNamespace("acme", "sales", "etl", "extract")
    assert namespace.is_sibling_of(sibling)
    assert not namespace.is_sibling_of(cloaca.TaskNamespace("acme", "sales", "other", "load"))
    assert str(namespace.parent()) == "acme::sales::etl"
    assert namespace.is_child_of(namespace.parent())
    assert not namespace.is_child_of(sibling)
    for wrong in ("a::b::c", "a::b::c::d::e", "a::::c::d", ""):
        with pytest.raises(ValueError, match="Invalid namespace format"):
            cloaca.TaskNamespace.from_string(wrong)


def test_a_workflow_has_a_namespace() -> None:
    place = cloaca.WorkflowContext("acme", "sales", "etl")
    load = place.task_namespace("load")
    assert str(load) == "acme::sales::etl::load"
    assert place.resolve_dependency("load") == load
    assert place.resolve_dependency("a::b::c::d") == cloaca.TaskNamespace("a", "b", "c", "d")
    assert place.workflow_namespace() == "acme::sales::etl"
    assert place.contains_namespace(load)
    assert not place.contains_namespace(cloaca.TaskNamespace("a", "b", "c", "d"))
    assert cloaca.WorkflowContext.default().tenant_id == "public"


def test_the_package_greets() -> None:
    assert cloaca.hello_world() == "Hello from Cloaca backend!"
    assert cloaca.HelloClass().get_message() == "Hello from HelloClass!"
    assert "HelloClass" in repr(cloaca.HelloClass())
    assert cloaca.get_backend() == "sqlite"
    assert cloaca.__version__.count(".") == 2


def test_every_public_name_exists_and_is_documented() -> None:
    for name in cloaca.__all__:
        value = getattr(cloaca, name)
        if name != "__version__":
            assert value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        cloaca.nothing  # noqa: B018
