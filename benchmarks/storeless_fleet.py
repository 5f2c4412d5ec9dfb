"""A fleet on this machine whose vectors go nowhere: Redis, PostgreSQL, an orchestrator, worker processes.

The servers are those of the tests; PostgreSQL runs without fsync.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from embedfleet.job_manager import EmbeddingJobManager
from support.databases import PostgresDatabases
from support.fleet import Fleet
from support.import_path import import_path
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer


@dataclass(frozen=True, slots=True)
class StorelessFleet:
    """A fleet that is ready, and the servers that it has for itself."""

    jobs: EmbeddingJobManager
    redis: RedisServer
    database_url: str


@asynccontextmanager
async def storeless_fleet(folder: Path, config: Mapping[str, Any]) -> AsyncIterator[StorelessFleet]:
    """A fleet with these settings. Its files are in `folder`."""
    with (
        RedisServer() as redis,
        PostgresServer() as postgres,
        PostgresDatabases(postgres).migrated() as database,
    ):
        services: dict[str, Any] = {
            "data_dir": str(folder),
            "redis": {"url": redis.url},
            "database": {"url": database},
            "vector_store": {"url": "http://127.0.0.1:9"},  # of no use: nothing is stored
        }
        path = import_path(Path(__file__).parent)
        servers = Fleet(
            folder, services | dict(config), module="null_fleet", environment={"PYTHONPATH": path}
        )
        with servers.orchestrator():
            async with servers.guest() as guest:
                yield StorelessFleet(guest.jobs, redis, database)
