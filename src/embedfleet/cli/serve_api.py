"""`embedfleet serve`: the HTTP API, with workers in the same process or without any."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import ConfigFile, DataDir, settings_from
from embedfleet.cli.output import say
from embedfleet.cli.serve import Wait, opened, resize_on_hangup, system_lines, with_sizes

if TYPE_CHECKING:
    from embedfleet.api.parts import ApiParts
    from embedfleet.api.server import ApiServer
    from embedfleet.bootstrap import FrontSystem
    from embedfleet.metrics.server import Health
    from embedfleet.settings import Settings

_LOOK_SECONDS = 1.0

Address = Annotated[
    str | None, typer.Option("--address", help="Address to listen on.", show_default="http.host")
]
Port = Annotated[
    int | None, typer.Option("--port", min=0, max=65_535, help="0: any free one.", show_default="http.port")
]
ApiWorkers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|none",
        help="Workers of every pool. none: only the API, for a fleet whose workers run elsewhere.",
        show_default="the settings'",
    ),
]
Insecure = Annotated[
    bool, typer.Option("--insecure", help="Serve other machines although there is no API key.")
]


def serve(
    address: Address = None,
    port: Port = None,
    workers: ApiWorkers = None,
    insecure: Insecure = False,
    wait: Wait = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Serve the HTTP API until SIGTERM or Ctrl-C: documents in, searches out, for many tenants.

    By default everything is in this process: the API, the workers and the search. Another SIGTERM or Ctrl-C
    stops at once.
    """
    from embedfleet import log

    _require_installed()
    number = _number_of(workers)

    def load() -> Settings:
        return with_sizes(_with_address(settings_from(data_dir, config), address, port), number, [])

    settings = load()
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    if workers == "none":
        asyncio.run(_serve_alone(settings, insecure=insecure))
    else:
        asyncio.run(_serve_with_workers(settings, load, insecure=insecure, wait=wait))


def _require_installed() -> None:
    from embedfleet.errors import ConfigError

    if find_spec("fastapi") is None:
        raise ConfigError("the HTTP API is not installed: install the extra `serve` of embedfleet")


def _number_of(workers: str | None) -> int | None:
    if workers is None or workers == "none":
        return None
    if not workers.isdecimal():
        raise typer.BadParameter(f"`{workers}` must be a number or `none`", param_hint="--workers")
    return int(workers)


def _with_address(settings: Settings, address: str | None, port: int | None) -> Settings:
    given = {"host": address, "port": port}
    http = settings.http.model_copy(update={name: one for name, one in given.items() if one is not None})
    return settings.model_copy(update={"http": http})


async def _serve_with_workers(
    settings: Settings, load: Callable[[], Settings], *, insecure: bool, wait: bool
) -> None:
    """Serve with an orchestrator in this process.

    The API stops first, so that no request meets closed parts.
    """
    from embedfleet.api.opening import parts_of_owner
    from embedfleet.cli.interrupts import stop_on_signal

    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with opened(settings, stop, purpose="HTTP API and workers", wait=wait) as owner:
            if owner is None:
                return
            parts = parts_of_owner(owner, insecure=insecure)
            async with _listening(parts, system_lines(owner)) as server:
                with resize_on_hangup(owner, load):
                    api_ended = asyncio.Event()
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(owner.orchestrator.run(api_ended), name="orchestrator")
                        try:
                            await server.run(stop)
                        finally:
                            api_ended.set()


async def _serve_alone(settings: Settings, *, insecure: bool) -> None:
    """Serve without workers. The process owns nothing, so any number of them may run."""
    from embedfleet.api.opening import parts_of_front
    from embedfleet.bootstrap import open_front
    from embedfleet.cli.interrupts import stop_on_signal
    from embedfleet.metrics.server import Health

    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with open_front(settings) as front:
            health = Health()
            parts = parts_of_front(front, health, insecure=insecure)
            lines = [f"  database  {front.database.location}", "  workers   none in this process"]
            async with _listening(parts, lines) as server, asyncio.TaskGroup() as tasks:
                tasks.create_task(_report_health(front, health, stop), name="health")
                await server.run(stop)


async def _report_health(front: FrontSystem, health: Health, stop: asyncio.Event) -> None:
    """Report once a second whether the database answers, until the stop."""
    from embedfleet.errors import EmbedfleetError, one_line
    from embedfleet.waiting import repeat

    async def look() -> None:
        try:
            await front.database.read(lambda conn: None)
        except EmbedfleetError as exc:
            health.beat([one_line(exc)])
        else:
            health.beat([])

    await repeat(stop, look, seconds=_LOOK_SECONDS)


@asynccontextmanager
async def _listening(parts: ApiParts, lines: list[str]) -> AsyncIterator[ApiServer]:
    """Listen, and say where. Raises ConfigError if other machines could use the API without a key."""
    from embedfleet.api.access import is_loopback
    from embedfleet.api.app import create_app
    from embedfleet.api.server import ApiServer
    from embedfleet.errors import ConfigError

    http = parts.settings.http
    if not (is_loopback(http.host) or parts.insecure or await parts.keys.any_exists()):
        raise ConfigError(
            f"http.host: {http.host} is open to other machines and there is no API key: make one with "
            "`embedfleet keys create`, or give --insecure"
        )
    server = ApiServer(
        create_app(parts),
        host=http.host,
        port=http.port,
        stopping=parts.stopping,
        drain_seconds=parts.settings.orchestrator.drain_seconds,
    )
    address = f"http://{f'[{http.host}]' if ':' in http.host else http.host}:{server.port}"
    say(f"embedfleet HTTP API, pid {os.getpid()}")
    for line in [*lines, f"  API       {address}/v1, described at {address}/docs"]:
        say(line)
    yield server
