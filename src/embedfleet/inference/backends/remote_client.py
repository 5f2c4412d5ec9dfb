"""HTTP to an embedding server: one request and its whole answer, or the reason why there is none."""

from __future__ import annotations

import json
import ssl
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from pydantic import SecretStr

from embedfleet.errors import ModelError
from embedfleet.inference.backends.remote_answers import Answer, explained
from embedfleet.settings import RemoteSettings

if TYPE_CHECKING:
    import httpx

# A float in JSON has about 20 characters. An answer that is far longer than its vectors need is not read to
# its end, because it would fill the memory.
_MOST_BYTES_A_VALUE = 64
_MOST_BYTES_BESIDES = 1_000_000


class NoAnswer(Exception):
    """The server could not be reached, or did not answer to the end."""


class RemoteClient:
    """One connection, which is kept alive. Belongs to one thread.

    Certificates are verified, redirects are not followed, and a proxy that the environment names is not used:
    texts and key go only to the server that the settings name.
    """

    def __init__(self, settings: RemoteSettings, dim: int) -> None:
        """Raises ModelError if the file of certificates cannot be used."""
        self._url = f"{settings.url.rstrip('/')}/embeddings"
        self._dim = dim
        self._body = {"model": settings.model, "encoding_format": "float"}
        self._dimensions = {"dimensions": dim} if settings.send_dimensions else {}
        self._key = _key_of(settings)
        self._client = _connect(settings, self._key)

    def post(self, texts: Sequence[str], timeout_seconds: float) -> Answer:
        """Send the texts and wait for the whole answer. Raises NoAnswer saying why there is none within
        `timeout_seconds`."""
        import httpx

        content = json.dumps({**self._body, **self._dimensions, "input": list(texts)}).encode()
        try:
            with self._client.stream("POST", self._url, content=content, timeout=timeout_seconds) as response:
                body = self._read(response, len(texts), monotonic() + timeout_seconds)
                headers = {name.lower(): value for name, value in response.headers.items()}
                return Answer(response.status_code, headers, body)
        except httpx.TimeoutException as exc:
            raise NoAnswer(f"does not answer within {timeout_seconds:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as exc:
            raise NoAnswer(f"cannot be reached ({type(exc).__name__}: {exc})") from exc

    def explained(self, answer: Answer, texts: Sequence[str]) -> str:
        """What the answer to these texts says: one line that quotes neither a text nor the key."""
        return explained(answer, texts, None if self._key is None else self._key.get_secret_value())

    def close(self) -> None:
        self._client.close()

    def _read(self, response: httpx.Response, texts: int, deadline: float) -> bytes:
        """The body. `deadline` (monotonic seconds) is for all of it: httpx's timeout is for each part, and a
        server that sends a byte now and then would never exceed it."""
        body = bytearray()
        most = _MOST_BYTES_BESIDES + texts * self._dim * _MOST_BYTES_A_VALUE
        for part in response.iter_bytes():
            body += part
            if len(body) > most:
                raise NoAnswer(f"sends more than {most} bytes for {texts} texts")
            if monotonic() > deadline:
                raise NoAnswer("does not come to an end with its answer in time")
        return bytes(body)


def _key_of(settings: RemoteSettings) -> SecretStr | None:
    """The API key without the line break that a key read from a file ends with; None: there is no key."""
    key = "" if settings.api_key is None else settings.api_key.get_secret_value().strip()
    return SecretStr(key) if key else None


def _connect(settings: RemoteSettings, key: SecretStr | None) -> httpx.Client:
    import httpx

    headers = {"Content-Type": "application/json", "User-Agent": "embedfleet"}
    if key is not None:
        headers["Authorization"] = f"Bearer {key.get_secret_value()}"
    return httpx.Client(
        headers=headers,
        verify=_trusted(settings.tls_ca_file) if settings.url.startswith("https:") else False,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=1),
    )


@cache
def _trusted(ca_file: Path | None) -> ssl.SSLContext:
    """The certificates to trust, read once for all replicas because that takes a while."""
    import httpx

    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=str(ca_file))
    except OSError as exc:
        raise ModelError(f"`remote.tls_ca_file`: no certificates can be read from {ca_file} ({exc})") from exc
