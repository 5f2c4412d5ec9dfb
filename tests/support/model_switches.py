"""Switches to another model in a running system, with two quick models whose vectors mean something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from time import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.inference.backend import EmbeddingBackend, ModelInfo, TokenBatch
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.model_switching.orders import Wanted
from embedfleet.model_switching.schemas import SwitchEstimate
from embedfleet.queue_schemas import SearchHits
from embedfleet.records import model_switches
from embedfleet.records.model_switches import ModelSwitch
from embedfleet.searching.search import SearchRequest
from embedfleet.settings import ModelsSettings
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from support.stages_by_hand import StagesByHand
from support.system import TENANT, Running, until

OLD, NEW = "static", "shorter"
MODELS: dict[str, Any] = {"default": OLD, "catalogue": {NEW: {"backend": "static", "dimensions": 128}}}
"""The bundled token table, and its first 128 dimensions: a space of its own that finds nearly the same."""


THIRD = "shortest"
THREE: dict[str, Any] = MODELS | {
    "catalogue": MODELS["catalogue"] | {THIRD: {"backend": "static", "dimensions": 64}}
}
MODEL_OF = (OLD, THIRD, NEW)
"""Of documents of a route, in turn. What is compared with the route has some of them, too."""


def settled(estimate: SwitchEstimate) -> SwitchEstimate:
    """The estimate without what differs between two moments: the free space of the disk, and the pace."""
    moment = {"free_bytes": None, "seconds": None, "tokens_per_second": None, "pace_source": None}
    return estimate.model_copy(update=moment)


class HeldCatalogue(Catalogue):
    """The new model can be held up, and can be spoilt as a broken export of it would be."""

    def __init__(self, settings: ModelsSettings, *, spoilt: float = 0.0) -> None:
        super().__init__(settings)
        self.spoilt = spoilt
        self.goes_on = threading.Event()
        self.goes_on.set()

    def open(self, name: str, device: str | None = None) -> EmbeddingBackend:
        backend = super().open(name, device)
        return HeldBackend(backend, self) if name == NEW else backend


class HeldBackend:
    """Waits while it is held up. The numbers of the share `spoilt` of the texts are in another order."""

    def __init__(self, inner: EmbeddingBackend, catalogue: HeldCatalogue) -> None:
        self._inner = inner
        self._catalogue = catalogue
        self.info: ModelInfo = inner.info

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        self._catalogue.goes_on.wait()
        vectors = self._inner.embed_tokens(batch)
        start = 0
        for row, length in enumerate(batch.lengths.tolist()):
            tokens = batch.token_ids[start : start + length]
            start += length
            # By the text, so that a passage is spoilt wherever it is embedded. Queries are short.
            if length > 20 and int(tokens.sum()) % 100 < 100 * self._catalogue.spoilt:
                vectors[row] = np.random.default_rng(1).permutation(vectors[row])
        return vectors

    def close(self) -> None:
        self._inner.close()


def document(number: int, *, more: str = "") -> dict[str, str]:
    """The fields of a document with a title and a heading that no other has."""
    subject = _word(number)
    text = f"# How {subject} are made in winter\n\n" + f"The {subject} of the north are old. {more}" * 6
    return {
        "media_id": f"doc-{number}",
        "content": text,
        "title": f"All about the {subject}",
        "content_type": "markdown",
    }


def _word(number: int) -> str:
    """A rare combination of common words, so that each document is about something of its own."""
    return f"{_KINDS[number // 10 % 10]} {_THINGS[number % 10]} of {_OWNERS[number // 100 % 10]}"


_KINDS = ("copper", "green", "iron", "little", "northern", "paper", "royal", "silver", "stone", "wooden")
_THINGS = (
    "boats",
    "clocks",
    "gardens",
    "harbours",
    "horses",
    "lamps",
    "letters",
    "markets",
    "mills",
    "trees",
)
_OWNERS = ("bakers", "farmers", "hunters", "kings", "monks", "pilots", "poets", "sailors", "tailors", "cooks")


async def switch_of(database: Database, tenant: str = TENANT) -> ModelSwitch:
    found = await database.read(partial(model_switches.newest_of, tenant=tenant))
    assert found is not None
    return found


async def begin(fleet: Running, *tenants: str, **wanted: Any) -> ModelSwitch:
    """Order the switch of the tenants to the new model. Returns that of the first."""
    info = fleet.system.catalogue.info(wanted.pop("to", NEW))
    names = tenants or (TENANT,)
    begun = await fleet.system.database.write(
        lambda conn: orders.begin(conn, names, Wanted(info, **wanted), time())
    )
    return begun.switches[0]


async def until_phase(fleet: Running, *phases: SwitchPhase, tenant: str = TENANT) -> ModelSwitch:
    """Return the tenant's switch when it is in one of the phases."""

    async def reached() -> bool:
        return (await switch_of(fleet.system.database, tenant)).phase in phases

    await until(reached, fleet.system.database)
    return await switch_of(fleet.system.database, tenant)


async def order(fleet: Running | StagesByHand, what: Callable[..., ModelSwitch], **more: Any) -> ModelSwitch:
    """Give an order of `model_switching.orders` for the tenant."""
    return await fleet.system.database.write(lambda conn: what(conn, TENANT, **more))


async def search(fleet: Running, query: str, **more: Any) -> SearchHits:
    return await fleet.system.search.search(TENANT, SearchRequest(query=query, **more))


async def found_media(fleet: Running, query: str, **more: Any) -> list[str]:
    return [hit.media_id for hit in await search(fleet, query, **more)]
