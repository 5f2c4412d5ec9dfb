"""A fleet without a server of vectors: Redis, PostgreSQL, and LanceDB in a bucket of S3."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

import lance
import pytest

from embedfleet.queue_schemas import Stage
from support.fleet import (
    QUICK_LEASES,
    Fleet,
    assert_all_completed,
    ended,
    more_stored,
    submit,
    tenant,
)
from support.hangs import eventually
from support.redis_server import RedisServer
from support.s3_server import S3Bucket
from support.stores import text_of_objects


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, s3_bucket: S3Bucket) -> Fleet:
    """Of two storage workers, which write claims that are as small as can be."""
    small_claims = {Stage.STORAGE.value: QUICK_LEASES["storage"] | {"workers": 2, "batch_tasks": 1}}
    return Fleet(
        tmp_path,
        {
            "data_dir": str(tmp_path / "unused"),
            "redis": {"url": redis_server.url},
            "database": {"url": postgres_url},
            "vector_store": {"kind": "lancedb", "path": s3_bucket.url},
            "models": {"default": "stub"},
            "chunking": {"batch_chunks": 4},
            "worker_pools": QUICK_LEASES | small_claims,
            "orchestrator": {"restart_backoff_seconds": 0.2},
        },
    )


@pytest.mark.slow
async def test_a_fleet_stores_finds_deletes_and_tends_though_a_storage_worker_is_killed(
    fleet: Fleet, s3_bucket: S3Bucket
) -> None:
    async with fleet.guest() as guest:
        with fleet.orchestrator() as one:
            jobs = await submit(fleet, guest, "book", 20, 16)
            await more_stored(guest, jobs, than=20)
            one.workers(Stage.STORAGE)[0].send_signal(signal.SIGKILL)
            # What was killed may leave a file with texts of its own for a week, so another one is deleted.
            late = await submit(fleet, guest, "late", 2, 16)
            assert_all_completed(await ended(guest, [*jobs, *late]), 16)
            eventually(lambda: len(files(s3_bucket)) < 32, what="merged files, of 88 tasks")
            mine = ("--tenant", tenant(fleet, "late"))
            found = fleet.command("search", "late1", "--json", *mine)
            assert json.loads(found.stdout)["hits"], found.stderr
            assert "late1 paragraph" in text_of_objects(s3_bucket)
            gone = fleet.command("documents", "delete", "late-1", *mine)
            assert gone.returncode == 0, gone.stderr
            eventually(lambda: "late1 paragraph" not in text_of_objects(s3_bucket), what="a forgotten text")
            await guest.jobs.of_all_tenants().wait_for_cleanups()
            (await fleet.ledger(guest)).assert_exact()
            assert one.stop() == 0
    assert "late0 paragraph" in text_of_objects(s3_bucket)
    sound = fleet.command("verify")
    assert sound.returncode == 0, sound.stdout + sound.stderr


def files(bucket: S3Bucket) -> Sequence[object]:
    """Of the table of the only space, in its latest version."""
    folders = {name.split("/")[1] for name in bucket.names()}
    [table] = [folder for folder in folders if not folder.startswith("embedfleet-")]
    found: Sequence[object] = lance.dataset(f"{bucket.url}/{table}").get_fragments()
    return found
