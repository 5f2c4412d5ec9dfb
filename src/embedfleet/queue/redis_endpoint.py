"""Reads the address of Redis from `redis.url`, which may have these forms.

::

    redis://[user:password@]host[:6379][/db]                one server
    unix://[user:password@]/path/to/socket[?db=0]           one server on this machine
    redis+sentinel://host[:26379][,host...]/service[/db]    the server that is the primary now
    redis+cluster://host[:6379][,host...]                   a cluster, from any of its nodes

`rediss` instead of `redis` is the same over TLS. Names and passwords in a URL are percent-encoded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from embedfleet.errors import ConfigError
from embedfleet.settings import RedisSettings
from embedfleet.validation import HOW_TO_ENCODE, is_encoded

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
class Endpoint:
    """The parts of a URL. `str(endpoint)` is for messages and holds no secrets."""

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


def parse_endpoint(settings: RedisSettings) -> Endpoint:
    """Parse the URL of the settings. `username` and `password` of the settings override those in the URL.

    Raises ConfigError for a URL that cannot be understood; the message never holds the password.
    """
    if settings.url is None:
        raise _wrong("is not set")
    url = settings.url.get_secret_value()
    if not is_encoded(url):
        raise _wrong(f"has a special character in its user or password: {HOW_TO_ENCODE}")
    try:
        parts = urlsplit(url)
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
        username=settings.username or unquote(username) or None,
        password=secret_text(settings.password) or unquote(password) or None,
    )


def secret_text(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _wrong(what: str) -> ConfigError:
    return ConfigError(f"redis.url {what}; see the forms in the configuration file")


def _hosts(kind: Kind, address: str) -> tuple[tuple[str, int], ...]:
    default_port = _DEFAULT_SENTINEL_PORT if kind == "sentinel" else _DEFAULT_PORT
    hosts = tuple(_host(part, default_port) for part in address.split(","))
    if kind == "server" and len(hosts) > 1:
        raise _wrong("names several hosts; use redis+sentinel or redis+cluster")
    return hosts


def _host(text: str, default_port: int) -> tuple[str, int]:
    """Return the host and port of `host`, `host:port` or `[v6]:port`."""
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
        raise _wrong("has a text where the number of the database is expected")
    if kind == "cluster" and int(db or 0):
        raise _wrong("names a database; a cluster has only database 0")
    return service, int(db or 0)
