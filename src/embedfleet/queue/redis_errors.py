"""What a failure of Redis means here: the one place where redis-py's errors become this project's."""

from __future__ import annotations

from redis import exceptions as redis_errors
from redis.exceptions import RedisError

from embedfleet.errors import BrokerUnavailable, ConfigError

REDIS_FAILURES = (RedisError, redis_errors.RedisClusterException, OSError)
"""All that a call of redis-py may raise because of the server, the network or the settings."""

CONNECTION_FAILURES = (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError)


def explained(exc: Exception, where: str) -> BrokerUnavailable | ConfigError:
    """`exc` as the error to raise `from` it. `where` is the server's address, without secrets.

    Wrong credentials and missing rights are for a person to mend: ConfigError. All else may heal.
    """
    while isinstance(exc.__cause__, RedisError):  # what goes wrong while connecting comes wrapped
        exc = exc.__cause__
    text = " ".join(str(exc).split()) or type(exc).__name__
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
            return _out_of_memory(where)
        case redis_errors.ReadOnlyError():
            return BrokerUnavailable(
                f"Redis at {where} is a read-only replica now; waiting until redis.url leads to the primary"
            )
        case redis_errors.BusyLoadingError():
            return BrokerUnavailable(f"Redis at {where} is loading its data; waiting")
        case redis_errors.ResponseError() if "OOM command not allowed" in text:
            return _out_of_memory(where)  # how servers before 7 report it from inside a script
        case _:
            return BrokerUnavailable(f"Redis at {where} cannot be used: {text}")


def _out_of_memory(where: str) -> BrokerUnavailable:
    return BrokerUnavailable(
        f"Redis at {where} is out of memory: raise its maxmemory, or wait until tasks are finished"
    )
