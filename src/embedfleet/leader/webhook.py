"""Sends each event to the webhook in one POST. It is delivered only if the receiver answers 2xx."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import TYPE_CHECKING

from embedfleet.errors import WebhookUnavailable
from embedfleet.queue_schemas import JobEvent

if TYPE_CHECKING:
    import httpx


class Webhook:
    """The receiver of events.

    The headers `Embedfleet-Event-Id` and `Idempotency-Key` hold the event's id, which is the same at every
    attempt. With a secret, `Embedfleet-Signature: sha256=HEX` holds the HMAC-SHA256 of the body. Redirects
    and the proxies of the environment are ignored, so an event goes only to the address in the settings.
    """

    def __init__(self, url: str, *, secret: str | None, timeout_seconds: float) -> None:
        self._url = url
        self._secret = None if secret is None else secret.encode()
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def send(self, event: JobEvent) -> None:
        """Send the event, and return when the receiver has accepted it.

        Raises WebhookUnavailable; the receiver may have got the event or not.
        """
        import httpx  # here, because it takes a while and many systems send nothing

        body = json.dumps(event.json_document(), ensure_ascii=False).encode()
        if self._client is None:
            self._client = await asyncio.to_thread(_connect, self._timeout_seconds)
        try:
            # The limit is for the whole call, as a receiver could send single bytes for ever. Its body is not
            # read.
            async with (
                asyncio.timeout(self._timeout_seconds),
                self._client.stream(
                    "POST", self._url, content=body, headers=self._headers(event, body)
                ) as answer,
            ):
                status = answer.status_code
        except TimeoutError as exc:
            raise WebhookUnavailable(
                f"events.webhook_url: no answer within {self._timeout_seconds:g} s"
            ) from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError) as exc:
            raise WebhookUnavailable(
                f"events.webhook_url: cannot be reached ({type(exc).__name__}: {exc})"
            ) from exc
        if not 200 <= status < 300:
            raise WebhookUnavailable(f"events.webhook_url: answered {status} to {event.event_id}")

    async def close(self) -> None:
        """Close the connection. The next `send` opens it again."""
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _headers(self, event: JobEvent, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "embedfleet",
            "Embedfleet-Event-Id": event.event_id,
            "Idempotency-Key": event.event_id,
        }
        if self._secret is not None:
            digest = hmac.new(self._secret, body, hashlib.sha256).hexdigest()
            headers["Embedfleet-Signature"] = f"sha256={digest}"
        return headers


def _connect(timeout_seconds: float) -> httpx.AsyncClient:
    """Make the HTTP client. This blocks, because it reads the trusted certificates."""
    import httpx

    return httpx.AsyncClient(
        timeout=timeout_seconds,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=1),
    )
