"""The application: all routes, with the limits and the errors that they share."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig

from embedfleet import __version__
from embedfleet.api import pages, problems
from embedfleet.api.limits import BodyLimit, LimitedBodies, RateHeaders
from embedfleet.api.openapi import DocumentedApi
from embedfleet.api.parts import ApiParts
from embedfleet.api.routes import (
    bulk,
    cohere,
    collections,
    dead_letters,
    defaults,
    documents,
    estimates,
    events,
    experiments,
    explain,
    health,
    identity,
    jobs,
    keys,
    many,
    openai,
    pools,
    receipts,
    results,
    routing,
    search,
    shadows,
    switches,
    tei,
    tenants,
    traffic,
    uploads,
    usage,
)

# Routes are looked through in this order, and embeddings are asked for most often.
_ROUTERS = (
    openai.router,
    health.router,
    identity.router,
    defaults.router,
    jobs.router,
    many.router,
    estimates.router,
    receipts.router,
    documents.router,
    collections.router,
    search.router,
    dead_letters.router,
    pools.router,
    traffic.router,
    shadows.router,
    switches.router,
    events.router,
    results.router,
    experiments.router,
    explain.router,
    tenants.router,
    routing.router,
    keys.router,
    usage.router,
    tei.router,
    cohere.router,
    uploads.router,
    bulk.router,
)

# FastAPI would send traces, and the messages of errors, to a collector that an environment variable names.
_NO_TELEMETRY: TelemetryConfig = {
    "auto_configure": False,
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
}


def create_app(parts: ApiParts) -> FastAPI:
    """Return the application over these parts. The caller opens and closes them."""
    app = DocumentedApi(
        title="embedfleet",
        version=__version__,
        description="Turns documents into searchable vectors, for many tenants.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    app.state.parts = parts
    problems.add_handlers(app)
    for router in _ROUTERS:
        app.include_router(router)
    pages.add_pages(app)
    http = parts.settings.http
    app.add_middleware(
        LimitedBodies,
        usual=BodyLimit(http.max_body_bytes, "http.max_body_bytes"),
        of_paths=_own_limits(parts.settings.parsing.max_file_bytes),
        pause_seconds=http.body_timeout_seconds,
    )
    app.add_middleware(RateHeaders)
    return app


def _own_limits(max_file_bytes: int) -> dict[str, BodyLimit | None]:
    """Return the limits of the paths whose bodies are not held in memory; None: of lines, each has one."""
    # A file is counted when it comes in. This limit counts the form around it, too.
    of_files = BodyLimit(max_file_bytes + uploads.FORM_BYTES, "parsing.max_file_bytes")
    return dict.fromkeys(_paths(uploads.router), of_files) | dict.fromkeys(_paths(bulk.router), None)


def _paths(router: APIRouter) -> list[str]:
    return [route.path for route in router.routes if isinstance(route, APIRoute)]
