"""What switches to another model would take, before they begin: tokens, money, time and disk."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from embedfleet.chunking.counting import count_tokens
from embedfleet.chunking.tokenizers import load_tokenizer
from embedfleet.deployment import deployment_of
from embedfleet.errors import EmbedfleetError, InvalidRequest
from embedfleet.eta import two_digits
from embedfleet.inference.backend import ModelInfo
from embedfleet.inference.calibration import Calibrations
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.estimates import pace_of_past
from embedfleet.model_switching.orders import Wanted, require_same, sources_of
from embedfleet.model_switching.schemas import (
    PaceSource,
    SkippedTenant,
    SwitchEstimate,
    TenantSwitchEstimate,
)
from embedfleet.records import collections, model_switches, past_work, switch_sizes
from embedfleet.records.collections import Collection
from embedfleet.records.switch_sizes import SwitchSizes
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.tracking.workload import read_workload

_BYTES_PER_NUMBER = 4
# A row of `chunks` (with 100 characters of headings) and one of `vectors`, and a row of the cache beside its
# vector, each with its indexes: by the `dbstat` of SQLite over 912 chunks of prose.
_BYTES_PER_CHUNK = 370
_BYTES_PER_CACHED_VECTOR = 310
# Their beginnings give the ratio of two tokenizers within some percent, and take some hundredths of a second.
_SAMPLED_DOCUMENTS = 32


@dataclass(frozen=True, slots=True)
class _Found:
    """What SQL says of the tenants: sizes by the collection that is left, and texts of each old model."""

    sizes: Mapping[Collection, SwitchSizes]
    model_set: Sequence[str]
    left_out: Mapping[str, str]
    samples: Mapping[str, Sequence[str]]


async def estimate(
    database: Database,
    names: Sequence[str],
    wanted: Wanted,
    *,
    settings: Settings,
    catalogue: Catalogue,
    now: float,
    leaves_out: bool,
) -> SwitchEstimate:
    """Estimate the switches of these tenants. Raises as `orders.begin`, and leaves out as it does."""
    found = await database.read(partial(_look, names=names, wanted=wanted, leaves_out=leaves_out))
    return await _estimated(database, found, wanted.to, settings=settings, catalogue=catalogue, now=now)


async def estimate_filling(
    database: Database,
    sources: Sequence[Collection],
    to: ModelInfo,
    *,
    settings: Settings,
    catalogue: Catalogue,
    now: float,
) -> SwitchEstimate:
    """Estimate what it takes that the space of a model has all documents of these collections."""

    def look(conn: Connection) -> _Found:
        looked = _Look(conn, to)
        for one in sources:
            looked.add(one)
        return _Found(looked.sizes, (), {}, looked.samples)

    found = await database.read(look)
    return await _estimated(database, found, to, settings=settings, catalogue=catalogue, now=now)


async def _estimated(
    database: Database,
    found: _Found,
    to: ModelInfo,
    *,
    settings: Settings,
    catalogue: Catalogue,
    now: float,
) -> SwitchEstimate:
    ratios = await asyncio.to_thread(_ratios, found.samples, to, catalogue)
    tenants = [
        _of_tenant(one, sizes, to, ratios.get(one.model) or 1.0, settings)
        for one, sizes in found.sizes.items()
    ]
    old_spaces = sorted({one.space for one in found.sizes})
    pace = await _pace(database, to, old_spaces, settings, catalogue, now)
    tokens = sum(one.tokens for one in tenants)
    return SwitchEstimate(
        to_model=to.name,
        tenants=tuple(tenants),
        model_set=tuple(found.model_set),
        left_out=tuple(SkippedTenant(tenant_id=name, reason=why) for name, why in found.left_out.items()),
        documents=sum(one.documents for one in tenants),
        there=sum(one.there for one in tenants),
        chunks=sum(one.chunks for one in tenants),
        tokens=tokens,
        tokens_are_exact=all(ratio is None for ratio in ratios.values()),
        cost=settings.prices.cost(to.name, tokens),
        currency=settings.prices.currency,
        text_bytes=sum(one.text_bytes for one in tenants),
        vector_bytes=sum(one.vector_bytes for one in tenants),
        record_bytes=sum(one.record_bytes for one in tenants),
        free_bytes=await _free_bytes(settings),
        seconds=None if pace is None else two_digits(tokens / pace[0]),
        tokens_per_second=None if pace is None else two_digits(pace[0]),
        pace_source=None if pace is None else pace[1],
    )


def _look(conn: Connection, names: Sequence[str], wanted: Wanted, leaves_out: bool) -> _Found:
    under_way = model_switches.running_of(conn, names)
    looked = _Look(conn, wanted.to)
    model_set: list[str] = []
    left_out: dict[str, str] = {}
    for name in sorted(set(names)):
        try:
            if name in under_way:
                sources: Sequence[Collection] = require_same(under_way[name], wanted).sources
            else:
                sources = sources_of(conn, name, wanted)
        except InvalidRequest as exc:
            if not leaves_out:
                raise
            left_out[name] = str(exc)
            continue
        left = [one for one in sources if one.space != wanted.to.space]
        if not left:
            model_set.append(name)
        for one in left:
            looked.add(one)
    return _Found(looked.sizes, model_set, left_out, looked.samples)


class _Look:
    """Looks at one collection after the other: how much of it the new space lacks, and some of its texts."""

    def __init__(self, conn: Connection, to: ModelInfo) -> None:
        self._conn = conn
        self._to = to
        self.sizes: dict[Collection, SwitchSizes] = {}
        self.samples: dict[str, list[str]] = {}

    def add(self, source: Collection) -> None:
        target = collections.find(self._conn, source.tenant, self._to.space)
        self.sizes[source] = switch_sizes.sizes(self._conn, source, target)
        texts = self.samples.setdefault(source.model, [])
        if len(texts) < _SAMPLED_DOCUMENTS:
            texts += switch_sizes.some_texts(self._conn, source, _SAMPLED_DOCUMENTS - len(texts))


def _ratios(
    samples: Mapping[str, Sequence[str]], new: ModelInfo, catalogue: Catalogue
) -> dict[str, float | None]:
    """Return how many tokens the new model takes for one of each old model; None: as many. Blocks."""
    return {name: _ratio(name, texts, new, catalogue) for name, texts in samples.items()}


def _ratio(old_name: str, texts: Sequence[str], new: ModelInfo, catalogue: Catalogue) -> float | None:
    try:
        old = catalogue.info(old_name)
    except EmbedfleetError:
        return 1.0  # it has left the catalogue, so its tokenizer cannot be asked
    old_tokenizer, new_tokenizer = load_tokenizer(old.tokenizer_file), load_tokenizer(new.tokenizer_file)
    if old_tokenizer is new_tokenizer or old.tokenizer_file.read_bytes() == new.tokenizer_file.read_bytes():
        return None if new.max_tokens >= old.max_tokens else 1.0
    before = sum(count_tokens(text, old_tokenizer) for text in texts)
    after = sum(count_tokens(text, new_tokenizer) for text in texts)
    return after / before if before else 1.0


def _of_tenant(
    source: Collection, found: SwitchSizes, new: ModelInfo, ratio: float, settings: Settings
) -> TenantSwitchEstimate:
    chunks, tokens = round(found.chunks * ratio), round(found.tokens * ratio)
    vector_bytes = chunks * new.dim * _BYTES_PER_NUMBER
    cache_bytes = 0
    if settings.embedding_cache.enabled:
        cache_bytes = vector_bytes + chunks * _BYTES_PER_CACHED_VECTOR
    return TenantSwitchEstimate(
        tenant_id=source.tenant,
        from_model=source.model,
        documents=found.documents,
        there=found.there,
        chunks=chunks,
        tokens=tokens,
        cost=settings.prices.cost(new.name, tokens),
        cached_vectors=found.cached_vectors,
        text_bytes=found.text_bytes,
        vector_bytes=vector_bytes,
        record_bytes=chunks * _BYTES_PER_CHUNK + cache_bytes,
    )


async def _pace(
    database: Database,
    new: ModelInfo,
    old_spaces: Sequence[str],
    settings: Settings,
    catalogue: Catalogue,
    now: float,
) -> tuple[float, PaceSource] | None:
    """Return the tokens a second that are to be expected with the new model, and where they were measured.

    If nothing was embedded with it yet, the slowest counts of what is known: a model is no faster than its
    calibration, nor are the other stages faster than they were with the old model.
    """
    past = pace_of_past(await database.read(partial(past_work.latest_jobs_in_space, space=new.space)))
    if past is not None:
        return past.tokens_per_second, PaceSource.MODEL
    known: list[tuple[float, PaceSource]] = []
    alone = await asyncio.to_thread(Calibrations(catalogue.cache_dir).rate_of_model, new.name)
    if alone is not None:
        known.append((alone, PaceSource.CALIBRATION))
    workload = await database.read(partial(read_workload, settings=settings.tenants, now=now))
    if workload.rate is not None:
        known.append((workload.rate, PaceSource.WORKERS))
    for space in old_spaces:
        found = pace_of_past(await database.read(partial(past_work.latest_jobs_in_space, space=space)))
        if found is not None and workload.rate is None:
            known.append((found.tokens_per_second, PaceSource.PAST))
    return min(known, key=lambda one: one[0], default=None)


async def _free_bytes(settings: Settings) -> int | None:
    if not deployment_of(settings).owns_data_directory:
        return None
    return (await asyncio.to_thread(shutil.disk_usage, settings.data_dir)).free
