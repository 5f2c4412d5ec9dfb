"""Opens Chroma's clients, embedded or for a server. They read no environment or `.env`.

They send no telemetry either.

chromadb and httpx are imported when the first client is opened, as that takes a second.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from embedfleet.errors import ConfigError
from embedfleet.validation import first_problem
from embedfleet.vectors.server_address import ServerAddress

if TYPE_CHECKING:
    import httpx
    from chromadb.api import ClientAPI, ServerAPI
    from chromadb.api.models.Collection import Collection
    from chromadb.config import System

_CONNECT_SECONDS = 5.0
"""A running server accepts a connection at once, so a short limit soon shows that a server is away."""

_MOST_QUOTED_CHARS = 200


def make_directory(directory: Path) -> None:
    """Create the directory, for its user only, if it is missing. Raises ConfigError if that fails."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"data_dir: cannot make {directory} ({exc.strerror or exc}): choose a writable one"
        ) from exc


def open_directory(directory: Path) -> ClientAPI:
    """Open Chroma in this process. The directory must exist."""
    system = _system(
        chroma_api_impl="chromadb.api.rust.RustBindingsAPI",
        is_persistent=True,
        persist_directory=str(directory),
    )
    from chromadb.api import ServerAPI
    from chromadb.api.client import Client

    # Not PersistentClient: when it fails to open, the broken system stays in a global cache under this path.
    system.instance(ServerAPI)
    system.start()
    return Client.from_system(system)


class ServerClient:
    """The part of chromadb's own client that we use, over connections that have time-outs.

    chromadb's client opens connections without a time-out. Several threads may call this one. It raises
    httpx's errors beside chromadb's.
    """

    def __init__(self, system: System, session: httpx.Client) -> None:
        """Create a client that is not checked yet. Use `open_server` to get a checked one."""
        from chromadb.api import ServerAPI

        self._system = system
        self._session = session
        self._api: ServerAPI = system.instance(ServerAPI)
        self._api._session.close()
        self._api._session = session
        system.start()

    def get_version(self) -> Any:
        """Return the server's answer, which may be anything if the server is not Chroma."""
        return self._api.get_version()

    def get_max_batch_size(self) -> int:
        return int(self._api.get_max_batch_size())

    def get_collection(self, name: str, embedding_function: None = None) -> Collection:
        return self._as_collection(self._api.get_collection(name))

    def list_collections(self, limit: int, offset: int) -> list[Collection]:
        return [self._as_collection(model) for model in self._api.list_collections(limit, offset)]

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
    """Connect to a server, and check that it answers as Chroma 1 does.

    A request may take `timeout_seconds`; up to `connections` requests run at the same time. Raises
    ConfigError for a server that is not Chroma 1, and chromadb's and httpx's errors, which `server_error`
    maps.
    """
    import httpx

    system = _system(
        chroma_api_impl="chromadb.api.fastapi.FastAPI",
        chroma_server_host=address.url,
        chroma_server_http_port=0,  # chromadb demands one, but uses the port of the url
    )
    session = httpx.Client(
        headers={"Content-Type": "application/json", **address.headers},
        auth=address.login,
        timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
        limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        # Trust the certificates that this machine trusts. Use no proxy and no `.netrc` of its user.
        verify=ssl.create_default_context() if address.url.startswith("https:") else False,
        trust_env=False,
        event_hooks={"response": [_raise_unless_chroma_named_the_error]},
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
    """Create Chroma's components with these settings only. They are not started yet."""
    try:
        from chromadb.config import Settings, System
    except ValidationError as exc:  # importing chromadb reads the environment and `.env`
        problem = first_problem(exc)
        name = problem.path[0].upper()
        raise ConfigError(
            f"environment or .env: Chroma cannot read {name} ({problem.message}): correct or unset it"
        ) from exc

    class OnlyTheseSettings(Settings):  # type: ignore[misc]  # chromadb is untyped here
        """Chroma's settings, without the environment and the `.env` file of the current directory."""

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type, init_settings: Any, **others: Any
        ) -> tuple[Any, ...]:
            return (init_settings,)

    return System(OnlyTheseSettings(anonymized_telemetry=False, **settings))


def _raise_unless_chroma_named_the_error(answer: httpx.Response) -> None:
    """Raise an HTTPStatusError for an answer that is no success and names none of Chroma's errors.

    chromadb raises its own error for those that it knows. Of any other answer it forgets the status.
    """
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
