"""The work of `embedfleet bench fleet`: looks at the monitoring ports, and the load of its own."""

from __future__ import annotations

import asyncio
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from random import Random
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from embedfleet.cli.ingest_run import Prune, run_ingest
from embedfleet.cli.made_up_prose import made_up_prose
from embedfleet.cli.output import warn
from embedfleet.cli.receipts import say_what_is_left
from embedfleet.errors import InvalidRequest, ServerUnavailable
from embedfleet.ingest import IngestOptions
from embedfleet.metrics.fleet_window import FleetWindow, Look, figures_of
from embedfleet.waiting import cancel_and_wait

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.tracking.worker_pools import OrchestratorInfo

_MOST_LOOKS = 60
_SHORTEST_PAUSE_SECONDS = 1.0
_PORT_SECONDS = 10.0
# A worker reports every second, and an orchestrator counts its own processor time every two.
_REPORT_SECONDS = 2.5
# Characters of a made-up document: a note to a long article.
_LENGTHS = (500, 2_000, 4_000, 16_000)


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a load: from the first submission until the last document was searchable or failed."""

    documents: int
    failed: int
    chunks: int
    seconds: float

    def json_document(self) -> dict[str, Any]:
        """Return the form that `--json` prints."""
        return {
            "documents": self.documents,
            "failed": self.failed,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "chunks_per_second": round(self.chunks / self.seconds, 2),
        }


@dataclass(frozen=True, slots=True)
class LoadedWindow:
    """A window, and what is known around it.

    `not_measured`: the orchestrators that run, but were not looked at.
    """

    figures: dict[str, Any]
    orchestrators: Sequence[tuple[str, str]]
    """Id and host of each that was looked at."""
    not_measured: Sequence[OrchestratorInfo]
    load: Loaded | None

    @property
    def failed_documents(self) -> int:
        return 0 if self.load is None else self.load.failed

    def json_document(self) -> dict[str, Any]:
        """Return the form that `--json` prints."""
        return {
            **self.figures,
            "orchestrators": [{"id": own_id, "host": host} for own_id, host in self.orchestrators],
            "not_measured": [
                {"id": one.orchestrator_id, "host": one.host, "pid": one.pid} for one in self.not_measured
            ],
            "load": None if self.load is None else self.load.json_document(),
        }


async def measure(system: System, ports: Sequence[str], *, seconds: float, load: int) -> LoadedWindow:
    """Look at the ports for `seconds`, or while a load of this many documents is worked on.

    Raises InvalidRequest for a URL that is none, or of a port that is no orchestrator's at the start;
    ServerUnavailable if a port does not answer then, or none answers again.
    """
    looks = _Looks([_metrics_url(port) for port in ports])
    await looks.look()
    loaded = None
    if load:
        async with _tenant_of_its_own(system) as tenant:
            async with looks.going_on(_SHORTEST_PAUSE_SECONDS):
                loaded = await _load(system, tenant, load)
                await asyncio.sleep(_REPORT_SECONDS)
            await looks.look_again()
    else:
        async with looks.going_on(max(_SHORTEST_PAUSE_SECONDS, seconds / _MOST_LOOKS)):
            await asyncio.sleep(seconds)
        await looks.look_again()
    window = looks.window()
    seen = (await system.orchestrators()).orchestrators
    measured = looks.orchestrators()
    missing = [one for one in seen if one.orchestrator_id not in dict(measured)]
    return LoadedWindow(figures_of(window), measured, missing, loaded)


class _Looks:
    """The looks so far, by port: two URLs of one orchestrator count once."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = urls
        self._looks: dict[str, list[Look]] = {}
        self._url_of: dict[tuple[str, str], str] = {}
        self._told_of: set[str] = set()

    def orchestrators(self) -> list[tuple[str, str]]:
        """Return id and host of each orchestrator that the ports of the window had."""
        found = (look.orchestrator for looks in self._seen_twice() for look in looks)
        return list(dict.fromkeys(one for one in found if one is not None))

    async def look(self) -> None:
        """Look at each port once, all at the same time. Raises what is wrong with a port."""
        for failure in (await self._look()).values():
            raise failure

    async def look_again(self) -> None:
        """Look at the ports that answer. The others are told of once, and not waited for."""
        for url, failure in (await self._look()).items():
            if url not in self._told_of:
                warn(f"{failure}; the time until it answers again counts as time without work")
            self._told_of.add(url)

    async def _look(self) -> dict[str, ServerUnavailable | InvalidRequest]:
        """Look at each port once. Return what is wrong with those that cannot be looked at."""
        failures: dict[str, ServerUnavailable | InvalidRequest] = {}
        for url, look in zip(self._urls, await asyncio.gather(*map(_look_at, self._urls)), strict=True):
            if isinstance(look, ServerUnavailable):
                failures[url] = look
            elif look.orchestrator is None:  # another program's port, or an orchestrator that still starts
                failures[url] = InvalidRequest(f"--metrics {url}: no orchestrator's series are there")
            elif self._url_of.setdefault(look.orchestrator, url) == url:
                self._looks.setdefault(url, []).append(look)
        return failures

    @asynccontextmanager
    async def going_on(self, pause_seconds: float) -> AsyncIterator[None]:
        """Look again and again during the block."""

        async def look_on() -> None:
            while True:
                await asyncio.sleep(pause_seconds)
                await self.look_again()

        looking = asyncio.create_task(look_on(), name="looks")
        try:
            yield
        finally:
            await cancel_and_wait(looking)

    def window(self) -> FleetWindow:
        """Return the window of all looks.

        Raises ServerUnavailable if no port answered twice, and InvalidRequest for a URL behind which several
        orchestrators answer in turn: their counts cannot be told apart from those of one that was restarted.
        """
        several = self._seen_twice()
        if not several:
            raise ServerUnavailable("no monitoring port answered twice")
        for url, looks in self._looks.items():
            lives = [one for one, _ in groupby(look.orchestrator for look in looks)]
            if len(lives) != len(set(lives)):
                raise InvalidRequest(
                    f"--metrics {url}: several orchestrators answer there in turn; name the port of each"
                )
        return FleetWindow(several)

    def _seen_twice(self) -> list[list[Look]]:
        return [looks for looks in self._looks.values() if len(looks) > 1]


def _metrics_url(port: str) -> str:
    parts = urlsplit(port)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"--metrics {port}: must be a URL, such as http://node3:9090")
    return port if parts.path not in ("", "/") else f"{port.rstrip('/')}/metrics"


async def _look_at(url: str) -> Look | ServerUnavailable:
    """Look at the port; if it does not answer, return why."""
    try:
        return await asyncio.to_thread(_fetch, url)
    except ServerUnavailable as exc:
        return exc


def _fetch(url: str) -> Look:
    try:
        with urllib.request.urlopen(url, timeout=_PORT_SECONDS) as answer:
            text = answer.read().decode()
        return Look.at_port(text, monotonic())
    except (OSError, urllib.error.URLError) as exc:
        raise ServerUnavailable(
            f"no metrics at {url} ({exc}): is the orchestrator running, with this monitoring.metrics_port?"
        ) from exc
    except ValueError as exc:
        raise InvalidRequest(f"--metrics {url}: what is there is no text of Prometheus ({exc})") from exc


@asynccontextmanager
async def _tenant_of_its_own(system: System) -> AsyncIterator[str]:
    """A tenant for the block. Then it is erased, and what is left of it is searched for and told."""
    tenant = f"bench-{uuid4().hex[:12]}"
    try:
        yield tenant
    finally:
        receipt_id = await (await system.administration()).delete_tenant(tenant)
        receipts = await system.searched_receipts(
            tenant, [receipt_id], purpose="embedfleet bench fleet", announce=warn
        )
        say_what_is_left(receipts)


async def _load(system: System, tenant: str, documents: int) -> Loaded:
    """Submit made-up documents of the tenant, and wait until all of them have ended."""
    with tempfile.TemporaryDirectory(prefix="embedfleet-bench-") as folder:
        await asyncio.to_thread(_write_documents, Path(folder), documents)
        started = monotonic()
        report = await run_ingest(
            system, [Path(folder)], IngestOptions(tenant), prune=Prune.NONE, tell=lambda _: None
        )
        seconds = monotonic() - started
    if report.interrupted:
        raise KeyboardInterrupt
    totals = report.totals()
    return Loaded(documents, documents - totals["ingested"], totals["chunks_stored"], seconds)


def _write_documents(folder: Path, documents: int) -> None:
    random = Random(20)
    for number in range(documents):
        text = made_up_prose(random, random.choice(_LENGTHS))
        (folder / f"{number:06}.txt").write_text(f"Document {number}.\n\n{text}\n", encoding="utf-8")
