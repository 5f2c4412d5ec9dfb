"""Maps redis-py's errors to embedfleet's. No other module does."""

from __future__ import annotations

import re

from redis import exceptions as redis_errors
from redis.exceptions import RedisError

from embedfleet.errors import BrokerUnavailable, ConfigError, one_line

_FROM_A_SCRIPT = re.compile(r"@user_script: ?\d+: -([A-Z]+) ")
"""How servers before version 7 report the error of a command inside a script; redis-py does not parse it."""

_KINDS_FROM_A_SCRIPT: dict[str, type[RedisError]] = {
    "OOM": redis_errors.OutOfMemoryError,
    "READONLY": redis_errors.ReadOnlyError,
    "NOPERM": redis_errors.NoPermissionError,
}

_TAKES_NO_WRITES = re.compile(r"\b(MISCONF|NOREPLICAS)\b")
"""MISCONF: the last write to disk failed (`stop-writes-on-bgsave-error`, or the append-only file).
NOREPLICAS: fewer replicas than `min-replicas-to-write`. redis-py has no class for them."""

REDIS_FAILURES = (RedisError, redis_errors.RedisClusterException, OSError)
"""The errors that a call of redis-py may raise because of the server, the network or the settings."""

BROKEN_CONNECTION = (redis_errors.ConnectionError, OSError)
"""Errors after which another connection may be tried at once. A timeout is not one: the server is silent."""


def explained(exc: Exception, where: str) -> BrokerUnavailable | ConfigError:
    """Return the error to raise from `exc`. `where` is the server's address, without secrets.

    Wrong credentials and missing rights become ConfigError, as a person must correct them. All other errors
    become BrokerUnavailable, as they may end by themselves.
    """
    while isinstance(exc.__cause__, RedisError):  # redis-py wraps the errors of connecting
        exc = exc.__cause__
    text = one_line(exc) or type(exc).__name__
    if reported := _FROM_A_SCRIPT.search(text):
        exc = _KINDS_FROM_A_SCRIPT.get(reported[1], redis_errors.ResponseError)(text)
    match exc:
        case redis_errors.AuthenticationError() | redis_errors.AuthenticationWrongNumberOfArgsError():
            return ConfigError(
                f"Redis at {where} refuses the login ({text}); check redis.username and redis.password, or "
                "those in redis.url"
            )
        case redis_errors.NoPermissionError() | redis_errors.AuthorizationError():
            return ConfigError(
                f"Redis at {where} does not allow it ({text}); check the rights of redis.username, or of the "
                "user in redis.url"
            )
        case redis_errors.OutOfMemoryError():
            return BrokerUnavailable(
                f"Redis at {where} is out of memory: raise its maxmemory, or wait until tasks are finished"
            )
        case redis_errors.ReadOnlyError():
            return BrokerUnavailable(
                f"Redis at {where} is a read-only replica now; waiting until redis.url leads to the primary"
            )
        case redis_errors.ResponseError() if _TAKES_NO_WRITES.search(text):
            return BrokerUnavailable(
                f"Redis at {where} takes no writes: {text}; see its log, its disk and its replicas"
            )
        case redis_errors.BusyLoadingError():
            return BrokerUnavailable(f"Redis at {where} is loading its data; waiting")
        case _:
            return BrokerUnavailable(f"Redis at {where} cannot be used: {text}")
