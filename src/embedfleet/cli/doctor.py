"""`embedfleet doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, settings_from
from embedfleet.cli.output import NOTHING_DONE, print_json

if TYPE_CHECKING:
    from embedfleet.settings import Settings

_LITTLE_SPACE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `detail` says what is wrong and what to do when it is not `ok`."""

    check: str
    ok: bool
    detail: str


def doctor(as_json: AsJson = False, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Check settings, data directory, disk, database, parser and model; exit 1 if anything is wrong."""
    from embedfleet import log

    log.configure(level="ERROR", as_json=False)
    settings = settings_from(data_dir, config)
    findings = list(_examine(settings))
    healthy = all(finding.ok for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'FAIL'} {finding.check:<10} {finding.detail}")
    raise SystemExit(0 if healthy else NOTHING_DONE)


def _examine(settings: Settings) -> Iterator[Finding]:
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("settings", _settings),
        ("data", _data),
        ("owner", _owner),
        ("database", _database),
        ("parser", _parser),
        ("model", _model),
    )
    from embedfleet.errors import EmbedfleetError

    for name, check in checks:
        try:
            yield Finding(name, True, check(settings))
        except EmbedfleetError as exc:
            yield Finding(name, False, str(exc))


def _settings(settings: Settings) -> str:
    from embedfleet.deployment import deployment_of

    if deployment_of(settings).shared_broker:
        return "a fleet: queues in Redis, workers on any number of hosts"
    return "embedded: queues and workers in one process"


def _data(settings: Settings) -> str:
    from embedfleet.errors import StorageFull
    from embedfleet.storage.data_dir import create_data_dir

    create_data_dir(settings.data_dir)
    free = shutil.disk_usage(settings.data_dir).free
    if free < _LITTLE_SPACE_BYTES:
        raise StorageFull(f"{settings.data_dir}: only {free / 1e6:.0f} MB free: make room before ingesting")
    return f"{settings.data_dir}, {free / 1e9:.1f} GB free"


def _owner(settings: Settings) -> str:
    from embedfleet.storage.ownership import owner_of

    owner = owner_of(settings.data_dir)
    if owner is None:
        return "nobody: a command that needs workers starts its own"
    return f"process {owner.pid} on {owner.host} ({owner.purpose}) since {owner.since:%Y-%m-%d %H:%M:%S} UTC"


def _database(settings: Settings) -> str:
    from embedfleet.bootstrap import open_guest
    from embedfleet.queue_schemas import JobStatus

    async def look() -> str:
        async with open_guest(settings) as guest:
            jobs = await guest.jobs.list_jobs(limit=1_000_000)
            unfinished = sum(1 for job in jobs if not job.status.terminal)
            failed = sum(1 for job in jobs if job.status is JobStatus.FAILED)
            return f"{len(jobs)} jobs, {unfinished} unfinished, {failed} failed"

    return asyncio.run(look())


def _parser(settings: Settings) -> str:
    from embedfleet.parsing.sandbox import ParserSandbox

    async def parse() -> str:
        async with ParserSandbox(settings.parsing) as parser:
            parsed = await parser.parse_bytes(b"# Title\n\nA paragraph.\n", name="probe.md")
            return f"works in a child process of {settings.parsing.memory_mb} MB ({parsed.content_type})"

    return asyncio.run(parse())


def _model(settings: Settings) -> str:
    import numpy as np

    from embedfleet.inference.backend import TokenBatch
    from embedfleet.inference.catalogue import Catalogue

    catalogue = Catalogue(settings.models)
    backend = catalogue.open(settings.models.default)
    try:
        probe = TokenBatch(np.array([2000], dtype=np.uint32), np.array([1], dtype=np.int64))
        dim = backend.embed_tokens(probe).shape[1]
    finally:
        backend.close()
    return f"{settings.models.default} loads and embeds ({dim} dimensions)"
