"""`embedfleet serve-workers`: runs an orchestrator as a service."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import ConfigFile, DataDir, settings_from
from embedfleet.cli.output import say
from embedfleet.cli.serve_pool import monitored, serve_pool

if TYPE_CHECKING:
    from embedfleet.bootstrap import OwnerSystem
    from embedfleet.metrics.server import Health
    from embedfleet.queue_schemas import Stage
    from embedfleet.settings import Settings

_LOOK_AGAIN_SECONDS = 1.0
_LOOK_FOR_READY_SECONDS = 0.1


class LauncherChoice(StrEnum):
    """The values of `orchestrator.launcher` (not imported here: that would slow down `--help`)."""

    AUTO = "auto"
    INLINE = "inline"
    PROCESS = "process"
    RAY = "ray"
    NONE = "none"


Workers = Annotated[
    int | None, typer.Option("--workers", min=0, help="Workers of every pool.", show_default="the settings'")
]
Pool = Annotated[
    list[str] | None,
    typer.Option(
        "--pool",
        metavar="POOL[=N]",
        help="Workers of one pool; may be repeated. With launcher none: the POOL that this process works in.",
    ),
]
LauncherName = Annotated[
    LauncherChoice | None,
    typer.Option(
        "--launcher",
        help="How workers are started; none: others start them.",
        show_default="orchestrator.launcher",
    ),
]
Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for Redis, the database and the vector store to be there.")
]

RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="The head of the Ray cluster (launcher ray).",
        show_default="ray.address",
    ),
]


def serve_workers(
    workers: Workers = None,
    pool: Pool = None,
    wait: Wait = False,
    launcher: LauncherName = None,
    address: RayAddress = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Run the worker pools until SIGTERM or Ctrl-C; jobs may be submitted by any other process.

    SIGHUP reads the settings again and changes the pools' sizes. A second SIGTERM or Ctrl-C stops at once.
    With --launcher none and a --pool, the process is one worker of that pool, and always waits for its
    services. Without a --pool it starts no worker, and may become the leader.
    """
    placed = placement_overrides(launcher, address)
    run_workers(lambda: settings_from(data_dir, config, placed), workers, pool or [], wait=wait)


def run_workers(load: Callable[[], Settings], workers: int | None, pools: list[str], *, wait: bool) -> None:
    """Run the worker pools by the settings that `load` returns, which SIGHUP reads again."""
    from embedfleet import log

    settings = load()
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    if settings.orchestrator.launcher == "none" and pools:
        asyncio.run(serve_pool(settings, _pool_of_process(workers, pools)))
        return
    sized = with_sizes(settings, workers, pools)
    asyncio.run(_serve(sized, lambda: with_sizes(load(), workers, pools), wait=wait))


async def _serve(settings: Settings, load: Callable[[], Settings], *, wait: bool) -> None:
    from loguru import logger

    from embedfleet.cli.interrupts import stop_on_signal
    from embedfleet.waiting import cancel_and_wait

    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with opened(settings, stop, purpose="worker orchestrator", wait=wait) as owner:
            if owner is None:
                return
            with (
                monitored(settings, owner.collector, owner.health) as address,
                resize_on_hangup(owner, load),
            ):
                for line in _description(owner, address):
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

    _tell_what_has_no_effect(settings)
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


def _tell_what_has_no_effect(settings: Settings) -> None:
    from loguru import logger

    from embedfleet.deployment import of_ray_alone

    launcher = settings.orchestrator.launcher
    if launcher in ("ray", "none"):  # with none they are refused
        return
    for name in of_ray_alone(settings):
        logger.warning(
            "setting `{}` has no effect: the launcher is `{}`, and `ray` alone reads it", name, launcher
        )


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


def placement_overrides(launcher: LauncherChoice | None, address: str | None) -> dict[str, Any]:
    """What these options say in place of the settings file."""
    placed: dict[str, Any] = {}
    if launcher is not None:
        placed["orchestrator"] = {"launcher": launcher.value}
    if address is not None:
        placed["ray"] = {"address": address}
    return placed


def _pool_of_process(workers: int | None, pools: list[str]) -> Stage:
    """The pool whose worker this process is."""
    from embedfleet.queue_schemas import Stage

    if workers is not None:
        raise typer.BadParameter(
            "with launcher none a process is one worker: start more processes", param_hint="--workers"
        )
    if len(pools) != 1 or pools[0] not in list(Stage):
        raise typer.BadParameter(
            f"with launcher none, name one of {', '.join(Stage)} (got {', '.join(pools)})",
            param_hint="--pool",
        )
    return Stage(pools[0])


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


def _description(owner: OwnerSystem, metrics_address: str) -> list[str]:
    return [
        f"embedfleet worker orchestrator, pid {os.getpid()}",
        *system_lines(owner),
        f"  metrics   {metrics_address}",
    ]


def system_lines(owner: OwnerSystem) -> list[str]:
    """What the system of this process is made of, one line for each part."""
    from embedfleet.bootstrap import places
    from embedfleet.host.host_pools import initial_sizes

    settings, deployment = owner.settings, owner.deployment
    where = places(settings)
    sizes = ", ".join(f"{number} {stage}" for stage, number in initial_sizes(settings).items())
    how = "in this process"
    if deployment.worker_processes:
        how = "placed by Ray" if deployment.ray else "processes of their own"
    workers = f"{sizes} ({how}{', auto-scaling' if settings.auto_scaling.enabled else ''})"
    return [
        *([f"  data      {settings.data_dir}"] if deployment.owns_data_directory else []),
        f"  queues    {where['queues']}",
        f"  database  {owner.database.location}",
        f"  vectors   {where['vectors']}",
        f"  workers   {workers if deployment.launches else 'started by others'}",
        f"  model     {settings.models.default} (default)",
    ]
