"""Every failure of redis-py has a meaning here, and the message of each says what to do."""

from __future__ import annotations

import inspect

import pytest
from redis import exceptions

from embedfleet.errors import BrokerUnavailable, ConfigError
from embedfleet.queue.redis_errors import REDIS_FAILURES, explained

WHERE = "db:6379"
FOR_A_PERSON = {
    exceptions.AuthenticationError,
    exceptions.AuthenticationWrongNumberOfArgsError,
    exceptions.AuthorizationError,
    exceptions.NoPermissionError,
}
NEVER_MET = {
    exceptions.ChildDeadlockedError,  # of the blocking client
    exceptions.IncorrectPolicyType,
}
FAILURES = [
    kind
    for _, kind in inspect.getmembers(exceptions, inspect.isclass)
    if issubclass(kind, Exception) and kind.__module__ == exceptions.__name__ and kind not in NEVER_MET
]


@pytest.mark.parametrize("kind", FAILURES)
def test_every_failure_is_caught_and_decided(kind: type[Exception]) -> None:
    assert issubclass(kind, REDIS_FAILURES)
    try:
        failure = kind("it\nbroke")
    except (TypeError, ValueError):
        failure = kind("1 127.0.0.1:6379")  # a redirection, with its target
    expected = ConfigError if kind in FOR_A_PERSON else BrokerUnavailable
    error = explained(failure, WHERE)
    assert type(error) is expected
    assert WHERE in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("-OOM command not allowed when used memory > 'maxmemory'.", "maxmemory"),
        ("-READONLY You can't write against a read only replica.", "read-only replica"),
    ],
)
def test_what_a_command_in_a_script_met_is_looked_up_in_the_text_of_older_servers(
    said: str, hint: str
) -> None:
    text = f"Error running script (call to f_0123): @user_script:245: @user_script: 245: {said}"
    error = explained(exceptions.ResponseError(text), WHERE)
    assert isinstance(error, BrokerUnavailable)
    assert hint in str(error)


def test_a_failure_wrapped_while_connecting_is_known_by_its_cause() -> None:
    wrapped = exceptions.ConnectionError("Authentication required.")
    wrapped.__cause__ = exceptions.AuthenticationError("Authentication required.")
    assert isinstance(explained(wrapped, WHERE), ConfigError)
