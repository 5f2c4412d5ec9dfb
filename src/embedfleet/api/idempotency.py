"""Requests that a client repeats: `Idempotency-Key` makes the second one get the answer of the first.

A key belongs to a tenant and a route, and holds for 24 hours. The same content gets the first answer again,
with `Idempotency-Replayed: true`. Other content is refused, and so is a request whose first try is still
being answered. Only an answer that made something is kept: after an error the same key may be used again.

A route that makes all it makes in one transaction records its answer in the same one. So if the process dies,
either both are there or neither. A claim without an answer ends a minute after its process. Then the request
runs again, and a version that it made before is recognised by its content and costs nothing.

It is not for an answer that holds a secret, as the answer is kept in SQL.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import TypeAlias

from sqlalchemy import Connection

from embedfleet.clock import Clock
from embedfleet.errors import KeyReused, RequestUnderWay
from embedfleet.records import idempotency
from embedfleet.records.idempotency import KEPT_SECONDS, KnownRequest, RequestKey
from embedfleet.sql.database import Database
from embedfleet.waiting import cancel_and_wait

ABANDONED_AFTER_SECONDS = 60.0
"""A claim that was not renewed for so long is abandoned: its process has ended."""
_RENEW_SECONDS = 15.0
"""The pause between two renewals: three may fail before the claim counts as abandoned."""
_RETRY_AFTER_SECONDS = 1.0


class Verdict(Enum):
    """What to do about a request whose key is known."""

    REPLAY = auto()
    TAKE_OVER = auto()
    OTHER_CONTENT = auto()
    UNDER_WAY = auto()


def judge(known: KnownRequest, request_hash: bytes, now: float) -> Verdict:
    """Decide about a request whose key is known. A key whose time is over is as good as a new one."""
    answered = known.status is not None
    if now - known.at >= (KEPT_SECONDS if answered else ABANDONED_AFTER_SECONDS):
        return Verdict.TAKE_OVER
    if known.request_hash != request_hash:
        return Verdict.OTHER_CONTENT
    return Verdict.REPLAY if answered else Verdict.UNDER_WAY


@dataclass(frozen=True, slots=True)
class Answer:
    """The status and the body of an answer. `replayed`: it was given before."""

    status: int
    body: str
    replayed: bool = False


Record: TypeAlias = Callable[[Connection, Answer], None]
"""Records an answer in the transaction that makes what the answer tells of."""


class RepeatedRequests:
    """Answers each request with a key once."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def answer_once(
        self,
        key: RequestKey | None,
        request_hash: bytes,
        make: Callable[[Record], Awaitable[Answer]],
    ) -> Answer:
        """Return what `make` returns, or what it returned for the same request before.

        `make` must call the `Record` that it gets with the answer that it returns. Without a key it is called
        in any case. Raises KeyReused if the key had other content, RequestUnderWay, and what `make` raises.
        """
        if key is None:
            return await make(_record_nothing)
        claim = _Claim(self._database, self._clock, key, secrets.token_hex(16))
        known = await claim.make(request_hash)
        if known is not None:
            return known
        renewing = asyncio.create_task(claim.keep_renewed(), name="renewal of an idempotency key")
        try:
            return await make(claim.record)
        except Exception:
            await claim.give_up()
            raise
        finally:
            # A request that is cancelled keeps its claim: whether its transaction was kept is not known.
            await cancel_and_wait(renewing)


class _Claim:
    """The right to answer the request with a key."""

    def __init__(self, database: Database, clock: Clock, key: RequestKey, name: str) -> None:
        self._database = database
        self._clock = clock
        self._key = key
        self._name = name

    async def make(self, request_hash: bytes) -> Answer | None:
        """Return None if the key is claimed, otherwise the answer of before. Raises as `answer_once` does."""

        def attempt(conn: Connection) -> Answer | None:
            now = self._clock.now()
            known = idempotency.claim(conn, self._key, request_hash, name=self._name, now=now)
            if known is None:
                return None
            match judge(known, request_hash, now):
                case Verdict.REPLAY:
                    assert known.status is not None
                    return Answer(known.status, known.response, replayed=True)
                case Verdict.OTHER_CONTENT:
                    raise KeyReused(
                        "Idempotency-Key: this key had a request with other content: take a new key for "
                        "another request"
                    )
                case Verdict.TAKE_OVER if idempotency.take_over(
                    conn, self._key, request_hash, known=known, name=self._name, now=now
                ):
                    return None
                case _:
                    raise RequestUnderWay(
                        "Idempotency-Key: the request with this key is still being answered: send it again",
                        retry_after_seconds=_RETRY_AFTER_SECONDS,
                    )

        return await self._database.write(attempt)

    def record(self, conn: Connection, answer: Answer) -> None:
        """Record the answer. If the claim was taken over, the row belongs to the other request."""
        idempotency.answer(
            conn,
            self._key,
            name=self._name,
            status=answer.status,
            response=answer.body,
            now=self._clock.now(),
        )

    async def keep_renewed(self) -> None:
        """Renew the claim until it is answered, taken over, or this is cancelled."""
        held = True
        while held:
            await asyncio.sleep(_RENEW_SECONDS)
            now = self._clock.now()
            renew = partial(idempotency.renew, key=self._key, name=self._name, now=now)
            held = await self._database.write(renew)

    async def give_up(self) -> None:
        """Free the key, unless an answer was recorded."""
        await self._database.write(partial(idempotency.give_up, key=self._key, name=self._name))


def _record_nothing(_conn: Connection, _answer: Answer) -> None:
    """The request has no key, so its answer is not kept."""
