"""Results that are pickled or copied, with any exception as their cause."""

from __future__ import annotations

import copy
import pickle
import threading
from typing import NoReturn

import cloaca
import pytest


class TwoArguments(Exception):
    """An exception that can be pickled, but not unpickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code


class Prefixed(Exception):
    """An exception whose text changes when it is pickled and unpickled."""

    def __init__(self, code: object) -> None:
        super().__init__(f"HTTP {code}")
        self.lock = threading.Lock()


class NeedsNew(OSError):
    def __new__(cls, *, path: str) -> NeedsNew:
        return super().__new__(cls, 2, path)

    def __init__(self, *, path: str) -> None:
        super().__init__(2, path)


class EndsUnpickling(Exception):
    def __setstate__(self, state: object) -> NoReturn:
        raise SystemExit("while it was unpickled")


@pytest.mark.parametrize(
    "raised",
    [TwoArguments(404, "nothing"), Prefixed(404), NeedsNew(path="a.csv"), EndsUnpickling("it"), ValueError("plain")],
    ids=lambda raised: type(raised).__name__,
)
def test_a_result_can_be_pickled_with_any_cause(runner: cloaca.DefaultRunner, raised: Exception) -> None:
    """Regression: a result whose cause has a constructor with two arguments could be pickled, but not unpickled: a
    process pool that returned one broke (temporal sdk-python #1350)."""
    with cloaca.WorkflowBuilder("causes"):

        @cloaca.task(retry_attempts=1)
        def causes() -> None:
            raise raised

    result = runner.execute("causes")
    for back in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result), copy.copy(result)):
        assert repr(back) == repr(result)
        assert back.final_context == result.final_context
        with pytest.raises(cloaca.WorkflowFailedError) as caught:
            back.raise_for_status()
        cause = caught.value.__cause__
        assert type(cause) is type(raised)
        assert str(cause) == str(raised)
    assert cause is raised
    assert getattr(pickle.loads(pickle.dumps(result))._cause, "code", 404) == 404


def test_a_result_is_pickled_without_a_cause_that_cannot_be(runner: cloaca.DefaultRunner) -> None:
    class Local(Exception): ...

    with cloaca.WorkflowBuilder("local"):

        @cloaca.task(retry_attempts=1)
        def local() -> None:
            raise Local("here")

    back = pickle.loads(pickle.dumps(runner.execute("local")))
    with pytest.raises(cloaca.WorkflowFailedError, match="Local: here") as caught:
        back.raise_for_status()
    assert caught.value.__cause__ is None
