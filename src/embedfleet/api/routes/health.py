"""For supervisors and Prometheus: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from embedfleet.api.access import Operator, Parts
from embedfleet.api.problems import responses

router = APIRouter(tags=["health"])


@router.get("/healthz", response_class=PlainTextResponse, responses={503: {"description": "Restart it."}})
async def alive(parts: Parts) -> Response:
    """Whether the process works. A supervisor restarts it if not."""
    return _words(*parts.health.alive())


@router.get("/readyz", response_class=PlainTextResponse, responses={503: {"description": "Not ready."}})
async def ready(parts: Parts) -> Response:
    """Whether requests can be answered and documents be worked on. A balancer sends no requests if not."""
    if parts.stopping.is_set():
        return _words(False, "stopping")
    return _words(*parts.health.ready())


@router.get("/metrics", response_class=PlainTextResponse, responses=responses())
def metrics(parts: Parts, _operator: Operator, request: Request) -> Response:
    """All series, for Prometheus. With API keys, a scrape needs the key of an operator."""
    registry = CollectorRegistry()
    registry.register(parts.collector)
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(registry), media_type=content_type)


def _words(good: bool, words: str) -> Response:
    return PlainTextResponse(f"{words}\n", status_code=200 if good else 503)
