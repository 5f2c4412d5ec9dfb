"""Where Redis is and how to reach it: the options, and the URL forms they may have.

::

    redis://[user:password@]host[:6379][/db]                one server
    unix://[user:password@]/path/to/socket[?db=0]           one server on this machine
    redis+sentinel://host[:26379][,host...]/service[/db]    whichever server is primary now
    redis+cluster://host[:6379][,host...]                   a cluster, from any of its nodes

`rediss` instead of `redis` is the same over TLS. Names and passwords in a URL are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from embedfleet.errors import ConfigError
from embedfleet.queue.keys import require_valid_prefix

_DEFAULT_PORT = 6379
_DEFAULT_SENTINEL_PORT = 26379

Kind = Literal["server", "socket", "sentinel", "cluster"]
_KINDS: dict[str, Kind] = {
    "redis": "server",
    "unix": "socket",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisOptions:
    """How to reach Redis. ConfigError for values that cannot be right.

    `username` and `password` go before those in the URL, so that a secret need not be part of it.
    `max_connections` bounds the connections of one broker (to each node of a cluster); further calls
    wait for one. The sentinels may have names and passwords of their own.
    """

    url: str = field(repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    key_prefix: str = "embedfleet"
    connect_timeout_seconds: float = 5.0
    socket_timeout_seconds: float = 10.0
    max_connections: int = 32
    tls_ca_file: str | None = None

    def __post_init__(self) -> None:
        require_valid_prefix(self.key_prefix)
        if self.max_connections < 2:
            raise ConfigError(
                f"redis.max_connections is {self.max_connections}; it must be at least 2: one only listens"
            )
        for name in ("connect_timeout_seconds", "socket_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"redis.{name} is {getattr(self, name)}; it must be more than 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a URL says. `str` of it is for messages and has no secrets."""

    kind: Kind
    tls: bool
    hosts: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    db: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        if self.kind == "socket":
            return self.path
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{self.service} of {hosts}" if self.service else hosts


def parse_endpoint(options: RedisOptions) -> Endpoint:
    """ConfigError for a URL that cannot be understood; the message never has the password."""
    try:
        parts = urlsplit(options.url)
        credentials, _, address = parts.netloc.rpartition("@")
    except ValueError as exc:
        raise _wrong("is not a URL") from exc
    tls = parts.scheme.startswith("rediss")
    kind = _KINDS.get(parts.scheme.replace("rediss", "redis"))
    if kind is None:
        raise _wrong(
            f"begins with {parts.scheme!r}; it must be redis, rediss, unix, redis+sentinel or redis+cluster"
        )
    username, _, password = credentials.partition(":")
    service, db = _service_and_db(kind, parts)
    return Endpoint(
        kind=kind,
        tls=tls,
        hosts=() if kind == "socket" else _hosts(kind, address),
        path=_socket_path(parts) if kind == "socket" else "",
        service=service,
        db=db,
        username=options.username or unquote(username) or None,
        password=options.password or unquote(password) or None,
    )


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"redis.url {what}; see the forms in the configuration file")


def _hosts(kind: Kind, address: str) -> tuple[tuple[str, int], ...]:
    default_port = _DEFAULT_SENTINEL_PORT if kind == "sentinel" else _DEFAULT_PORT
    hosts = tuple(_host(part, default_port) for part in address.split(","))
    if kind == "server" and len(hosts) > 1:
        raise _wrong("names several hosts; use redis+sentinel or redis+cluster")
    return hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    """Of `host`, `host:port` or `[v6]:port`."""
    try:
        parts = urlsplit(f"//{text}")
        port = parts.port or default_port
    except ValueError as exc:
        raise _wrong("has a host or port that cannot be read") from exc
    if not parts.hostname:
        raise _wrong("names no host")
    return parts.hostname, port


def _socket_path(parts: SplitResult) -> str:
    if not parts.path.strip("/"):
        raise _wrong("names no socket")
    return unquote(parts.path)


def _service_and_db(kind: Kind, parts: SplitResult) -> tuple[str, int]:
    queried = dict(parse_qsl(parts.query))
    if kind == "socket":
        db = queried.pop("db", "")
        service = ""
    else:
        path = unquote(parts.path).strip("/")
        service, _, db = path.partition("/") if kind == "sentinel" else ("", "", path)
    if queried:
        raise _wrong(f"has the unknown option {next(iter(queried))!r}")
    if kind == "sentinel" and not service:
        raise _wrong("names no service of the sentinels, as in redis+sentinel://host/service")
    if db and not db.isdecimal():
        raise _wrong(f"has {db!r} where the number of the database is expected")
    if kind == "cluster" and int(db or 0):
        raise _wrong("names a database; a cluster has only database 0")
    return service, int(db or 0)
