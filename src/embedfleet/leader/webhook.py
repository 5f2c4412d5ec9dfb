"""One event, one POST: delivered only if the receiver answers 2xx."""

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

    Headers: `Embedfleet-Event-Id` and `Idempotency-Key` (the event's id, the same at every attempt), and with
    a secret `Embedfleet-Signature: sha256=HEX`, the HMAC-SHA256 of the body. Redirects are not followed and
    no proxy of the environment is used: what is sent goes where the settings say, or nowhere.
    """

    def __init__(self, url: str, *, secret: str | None, timeout_seconds: float) -> None:
        self._url = url
        self._secret = None if secret is None else secret.encode()
        self._timeout_seconds = timeout_seconds
        self._client: httpx.AsyncClient | None = None

    async def send(self, event: JobEvent) -> None:
        """Return when the receiver has it. Raises WebhookUnavailable: it may have it, or not."""
        import httpx  # when there is something to send: it takes a while

        body = json.dumps(event.json_document(), ensure_ascii=False).encode()
        if self._client is None:
            self._client = await asyncio.to_thread(_connect, self._timeout_seconds)
        try:
            # In all, as a receiver may send a byte now and then for ever. Its body is of no interest.
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
        """Release the connection. It is opened again when needed."""
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
    """Blocking: it reads the certificates of those one may trust."""
    import httpx

    return httpx.AsyncClient(
        timeout=timeout_seconds,
        follow_redirects=False,
        trust_env=False,
        limits=httpx.Limits(max_connections=1),
    )
