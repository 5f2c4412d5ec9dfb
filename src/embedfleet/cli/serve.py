"""`embedfleet serve-workers`: the orchestrator as a service of its own."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import typer

from embedfleet.cli.options import ConfigFile, DataDir, settings_from
from embedfleet.cli.output import run_safely

if TYPE_CHECKING:
    from embedfleet.bootstrap import OwnerSystem
    from embedfleet.settings import Settings


def serve_workers(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Run the worker pools until SIGTERM or Ctrl-C; jobs may be submitted by any other process."""
    from embedfleet import log

    settings = settings_from(data_dir, config)
    log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    from loguru import logger

    from embedfleet.bootstrap import open_owner
    from embedfleet.cli.interrupts import stop_on_signal

    stop = asyncio.Event()
    with stop_on_signal(stop):
        async with open_owner(settings, purpose="worker orchestrator") as owner:
            monitoring = settings.monitoring
            metrics = (
                owner.metrics.serve(monitoring.metrics_host, monitoring.metrics_port)
                if monitoring.metrics_port
                else None
            )
            try:
                await owner.models.get(settings.models.default)  # the first job must not wait for it
                for line in _description(owner):
                    typer.echo(line)
                await owner.orchestrator.run(stop)
            finally:
                if metrics is not None:
                    await asyncio.to_thread(metrics.close)
        logger.info("drained and stopped")


def _description(owner: OwnerSystem) -> list[str]:
    settings = owner.settings
    pools = settings.worker_pools
    monitoring = settings.monitoring
    metrics = (
        f"http://{monitoring.metrics_host}:{monitoring.metrics_port}/metrics"
        if monitoring.metrics_port
        else "off"
    )
    return [
        f"embedfleet worker orchestrator, pid {os.getpid()}",
        f"  data      {settings.data_dir}",
        f"  database  {owner.database.location}",
        f"  vectors   {settings.chroma_dir}",
        f"  workers   {pools.chunking.workers} chunking, {pools.embedding.workers} embedding, "
        f"{pools.storage.workers} storage, {pools.deletion.workers} deletion",
        f"  model     {settings.models.default} (default)",
        f"  metrics   {metrics}",
        "ready: submit jobs from any process; SIGTERM or Ctrl-C drains and stops",
    ]


def main() -> None:
    """`serve-workers` as a program of its own."""
    run_safely(lambda: typer.run(serve_workers))
