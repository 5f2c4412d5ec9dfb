"""`embedfleet serve-workers`: runs an orchestrator as a service."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import ConfigFile, DataDir, settings_from
from embedfleet.cli.output import say

if TYPE_CHECKING:
    from embedfleet.bootstrap import OwnerSystem
    from embedfleet.metrics.server import Health, MonitoringServer
    from embedfleet.settings import Settings

_LOOK_AGAIN_SECONDS = 1.0
_LOOK_FOR_READY_SECONDS = 0.1

Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Workers of every pool.", show_default="the settings'")
]
Pool = Annotated[
    list[str] | None, typer.Option("--pool", metavar="POOL=N", help="Workers of one pool; may be repeated.")
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for Redis, the database and the vector store to be there.")
]


def serve_workers(
    workers: Workers = None,
    pool: Pool = None,
    wait: Wait = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the worker pools until SIGTERM or Ctrl-C; jobs may be submitted by any other process.

    SIGHUP reads the settings again and changes the pools' sizes. A second SIGTERM or Ctrl-C stops at once.
    """
    run_workers(lambda: with_sizes(settings_from(data_dir, config), workers, pool or []), wait=wait)


def run_workers(load: Callable[[], Settings], *, wait: bool) -> None:
    """Run the worker pools by the settings that `load` returns, which SIGHUP reads again."""
    from embedfleet import log

    settings = load()
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    asyncio.run(_serve(settings, load, wait=wait))


async def _serve(settings: Settings, load: Callable[[], Settings], *, wait: bool) -> None:
    from loguru import logger

    from embedfleet.cli.interrupts import stop_on_signal
    from embedfleet.waiting import cancel_and_wait

    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with opened(settings, stop, purpose="worker orchestrator", wait=wait) as owner:
            if owner is None:
                return
            with _monitoring(owner) as server, resize_on_hangup(owner, load):
                for line in _description(owner, server):
                    say(line)
                telling = asyncio.create_task(_tell_when_ready(owner.health, stop), name="tell when ready")
                try:
                    await owner.orchestrator.run(stop)
                finally:
                    await cancel_and_wait(telling)
        logger.info("drained and stopped")


async def _tell_when_ready(health: Health, stop: asyncio.Event) -> None:
    """Say once that workers of every pool have started and nothing is in their way, as `/readyz` does."""
    from embedfleet.waiting import wait_briefly

    while not health.ready()[0]:
        await wait_briefly(stop, _LOOK_FOR_READY_SECONDS)
        if stop.is_set():
            return
    say("ready: submit jobs from any process; SIGTERM or Ctrl-C drains and stops")


@asynccontextmanager
async def opened(
    settings: Settings, stop: asyncio.Event, *, purpose: str, wait: bool
) -> AsyncIterator[OwnerSystem | None]:
    """Open the system; with `wait`, wait for its services. None if the stop signal comes first."""
    from contextlib import AsyncExitStack

    from loguru import logger

    from embedfleet.bootstrap import open_owner
    from embedfleet.errors import Transient
    from embedfleet.waiting import wait_briefly

    async with AsyncExitStack() as stack:
        owner = None
        while owner is None and not stop.is_set():
            try:
                owner = await stack.enter_async_context(open_owner(settings, purpose=purpose))
            except Transient as exc:
                if not wait:
                    raise
                logger.warning("waiting: {}", exc)
                await wait_briefly(stop, _LOOK_AGAIN_SECONDS)
        if owner is not None and not owner.deployment.worker_processes:
            # Loaded now, so that the first job need not wait for it.
            await owner.models.get(settings.models.default)
        yield owner


@contextmanager
def _monitoring(owner: OwnerSystem) -> Iterator[MonitoringServer | None]:
    from embedfleet.metrics.server import MonitoringServer

    monitoring = owner.settings.monitoring
    if not monitoring.metrics_port:
        yield None
        return
    server = MonitoringServer(
        owner.collector, owner.health, host=monitoring.metrics_host, port=monitoring.metrics_port
    )
    try:
        yield server
    finally:
        server.close()


@contextmanager
def resize_on_hangup(owner: OwnerSystem, load: Callable[[], Settings]) -> Iterator[None]:
    """Change the pools' sizes at SIGHUP. Other settings need a restart; a warning says so if they differ."""
    from loguru import logger

    from embedfleet.errors import ConfigError
    from embedfleet.host.host_pools import initial_sizes

    def reload() -> None:
        try:
            settings = load()
        except ConfigError as exc:
            logger.error("settings not read again, everything stays as it is: {}", exc)
            return
        owner.orchestrator.resize(initial_sizes(settings))
        if _without_sizes(settings) != _without_sizes(owner.settings):
            logger.warning("only the pools' sizes were changed: the other new settings need a restart")

    if not hasattr(signal, "SIGHUP"):  # Windows
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)


def _without_sizes(settings: Settings) -> Settings:
    from embedfleet.settings import with_pool_sizes

    return with_pool_sizes(settings, dict.fromkeys(type(settings.worker_pools).model_fields, 0))


def with_sizes(settings: Settings, workers: int | None, pools: list[str]) -> Settings:
    from embedfleet.queue_schemas import Stage
    from embedfleet.settings import with_pool_sizes

    sizes = {} if workers is None else {stage.value: workers for stage in Stage}
    for given in pools:
        name, _, number = given.partition("=")
        if not number.isdecimal():
            raise typer.BadParameter(f"`{given}` must be POOL=N, e.g. embedding=3", param_hint="--pool")
        sizes[name] = int(number)
    return with_pool_sizes(settings, sizes)


def _description(owner: OwnerSystem, server: MonitoringServer | None) -> list[str]:
    host = owner.settings.monitoring.metrics_host
    return [
        f"embedfleet worker orchestrator, pid {os.getpid()}",
        *system_lines(owner),
        f"  metrics   {'off' if server is None else f'http://{host}:{server.port}/metrics'}",
    ]


def system_lines(owner: OwnerSystem) -> list[str]:
    """What the system of this process is made of, one line for each part."""
    from embedfleet.bootstrap import places
    from embedfleet.host.host_pools import initial_sizes

    settings, deployment = owner.settings, owner.deployment
    where = places(settings)
    sizes = ", ".join(f"{number} {stage}" for stage, number in initial_sizes(settings).items())
    how = "processes of their own" if deployment.worker_processes else "in this process"
    return [
        *([f"  data      {settings.data_dir}"] if deployment.owns_data_directory else []),
        f"  queues    {where['queues']}",
        f"  database  {owner.database.location}",
        f"  vectors   {where['vectors']}",
        f"  workers   {sizes} ({how}{', auto-scaling' if settings.auto_scaling.enabled else ''})",
        f"  model     {settings.models.default} (default)",
    ]
