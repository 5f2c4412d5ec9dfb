"""Chroma's clients: opened without its environment, its `.env` and its telemetry.

chromadb and httpx are imported when the first client is opened: it takes a second.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import ValidationError

from embedfleet.errors import ConfigError
from embedfleet.validation import first_problem

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI, ServerAPI
    from chromadb.api.models.Collection import Collection
    from chromadb.config import System

_CONNECT_SECONDS = 5.0
"""A server that is there takes a connection at once; one that is not should be known soon."""

_MOST_QUOTED_CHARS = 200


def make_directory(directory: Path) -> None:
    """Raises ConfigError if it is not there and cannot be made."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot make {directory} ({exc.strerror or exc}): choose a writable one"
        ) from exc


def open_directory(directory: Path) -> ClientAPI:
    """Chroma in this process; the directory is there."""
    system = _system(
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        is_persistent=True,
        persist_directory=str(directory),
    )
    from chromadb.api import ServerAPI
    from chromadb.api.client import Client

    # Not PersistentClient: when that fails, the broken system stays in a global cache under this path.
    system.instance(ServerAPI)
    system.start()
    return Client.from_system(system)


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """Where a Chroma server is and what to show it; `url` has no credentials, `repr` no secrets."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    login: tuple[str, str] | None = field(repr=False)

    @classmethod
    def parse(cls, url: str, headers: Mapping[str, str]) -> ServerAddress:
        """Raises ConfigError, without quoting what may be secret."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:  # a port that is no number, a bracket left open
            host = None
        if host is None or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
            raise ConfigError("vector_store.url: must be like http://chroma:8000 or https://host/path")
        for name, value in headers.items():
            # httpx would refuse it too, but with the value in its message.
            if not ((name + value).isascii() and (name + value).isprintable() and value == value.strip()):
                raise ConfigError(
                    f"vector_store.token: the header {name!r} can hold printable ASCII only, without blanks "
                    "at its ends: correct it"
                )
        return cls(_shown(parts, host, port), dict(headers), _login(parts))


class ServerClient:
    """As much of chromadb's own client as we use, which would open connections without any time-out.

    Its calls may come from several threads. It raises httpx's errors beside chromadb's.
    """

    def __init__(self, system: System, session: httpx.Client) -> None:
        """Use `open_server`."""
        from chromadb.api import ServerAPI

        self._system = system
        self._session = session
        self._api: ServerAPI = system.instance(ServerAPI)
        self._api._session.close()
        self._api._session = session
        system.start()

    def get_version(self) -> Any:
        """What the server answers to that, whatever kind of server it is."""
        return self._api.get_version()

    def get_max_batch_size(self) -> int:
        return int(self._api.get_max_batch_size())

    def get_collection(self, name: str, embedding_function: None = None) -> Collection:
        return self._as_collection(self._api.get_collection(name))

    def get_or_create_collection(
        self,
        name: str,
        *,
        metadata: Mapping[str, Any],
        configuration: Mapping[str, Any],
        embedding_function: None = None,
    ) -> Collection:
        return self._as_collection(
            self._api.get_or_create_collection(name, metadata=metadata, configuration=configuration)
        )

    def delete_collection(self, name: str) -> None:
        self._api.delete_collection(name)

    def close(self) -> None:
        self._system.stop()
        self._session.close()

    def _as_collection(self, model: Any) -> Collection:
        from chromadb.api.models.Collection import Collection

        return Collection(self._api, model, embedding_function=None)


def open_server(address: ServerAddress, *, timeout_seconds: float, connections: int) -> ServerClient:
    """A client of a server that answered as Chroma 1 does.

    Raises chromadb's and httpx's errors beside ConfigError; `server_error` maps them.
    """
    import httpx

    system = _system(
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=address.url,
        chroma_server_http_port=0,  # must be given, but the one in the url counts
    )
    session = httpx.Client(
        headers={"Content-Type": "application/json", **address.headers},
        auth=address.login,
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        # The certificates this machine trusts, but no proxy and no `.netrc` of its user.
        verify=ssl.create_default_context() if address.url.startswith("https:") else False,
        trust_env=False,
        event_hooks={"response": [_raise_what_chroma_did_not_say]},
    )
    client = ServerClient(system, session)
    try:
        version = client.get_version()
        if not isinstance(version, str) or not version.startswith("1."):
            raise ConfigError(f"vector_store.url: no Chroma server of version 1 answers at {address.url}")
    except BaseException:
        client.close()
        raise
    return client


def _system(**settings: Any) -> System:
    """Chroma's parts, not yet started."""
    try:
        from chromadb.config import Settings, System
    except ValidationError as exc:  # importing chromadb reads the environment and `.env`
        problem = first_problem(exc)
        name = problem.path[0].upper()
        raise ConfigError(
            f"environment or .env: Chroma cannot read {name} ({problem.message}): correct or unset it"
        ) from exc

    class OnlyTheseSettings(Settings):  # type: ignore[misc]  # chromadb is untyped here
        """Chroma's, without the environment and the `.env` of whatever directory we run in."""

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type, init_settings: Any, **others: Any
        ) -> tuple[Any, ...]:
            return (init_settings,)

    return System(OnlyTheseSettings(anonymized_telemetry=False, **settings))


def _raise_what_chroma_did_not_say(answer: httpx.Response) -> None:
    """An error that names one of Chroma's is left to chromadb, which of any other forgets the status."""
    if answer.is_success:
        return
    from chromadb.errors import error_types
    from httpx import HTTPStatusError

    answer.read()
    try:
        named = answer.json()["error"] in error_types
    except (ValueError, TypeError, KeyError):
        named = False
    if not named:
        said = f"HTTP {answer.status_code} {answer.reason_phrase} {answer.text[:_MOST_QUOTED_CHARS]}"
        raise HTTPStatusError(said, request=answer.request, response=answer)


def _shown(parts: SplitResult, host: str, port: int | None) -> str:
    place = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{place}{'' if port is None else f':{port}'}{parts.path.rstrip('/')}"


def _login(parts: SplitResult) -> tuple[str, str] | None:
    if parts.username is None:
        return None
    return unquote(parts.username), unquote(parts.password or "")
