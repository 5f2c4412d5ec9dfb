"""Embeddings of a fleet: an API process without a model asks worker processes, one of which is killed."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import numpy as np
import pytest

from embedfleet.api.opening import parts_of_front
from embedfleet.bootstrap import open_front
from embedfleet.inference.catalogue import Catalogue
from embedfleet.metrics.server import Health
from embedfleet.queue_schemas import Stage
from embedfleet.tokenising import tokenised
from support.api import serving_parts
from support.chroma_server import ChromaServer
from support.fleet import QUICK_LEASES, Fleet
from support.redis_server import RedisServer


@pytest.mark.slow
async def test_a_killed_worker_costs_no_request(
    tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer
) -> None:
    import openai  # here: it takes seconds, in each process that collects the tests

    fleet = Fleet(
        tmp_path,
        {
            "data_dir": str(tmp_path / "unused"),
            "redis": {"url": redis_server.url},
            "database": {"url": postgres_url},
            "vector_store": {"url": chroma_server.url},
            "models": {"default": "stub"},
            "worker_pools": QUICK_LEASES,
            "orchestrator": {"restart_backoff_seconds": 0.2},
        },
    )
    with fleet.orchestrator("--pool", "embedding=2") as one:
        async with open_front(fleet.settings) as front:
            async with (
                serving_parts(parts_of_front(front, Health())) as (url, _),
                openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client,
            ):
                asking = [
                    asyncio.create_task(client.embeddings.create(model="stub", input=[f"text {n}"] * 20))
                    for n in range(200)
                ]
                await asking[0]
                one.workers(Stage.EMBEDDING)[0].send_signal(signal.SIGKILL)
                made = await asyncio.gather(*asking)
            assert front.embedder.loaded_models == []
    info = Catalogue(fleet.settings.models).info("stub")
    backend = Catalogue(fleet.settings.models).open("stub")
    expected = backend.embed_tokens(tokenised([f"text {n}" for n in range(200)], info))
    for n, answer in enumerate(made):
        assert len(answer.data) == 20
        assert np.allclose(np.array(answer.data[7].embedding), expected[n])
