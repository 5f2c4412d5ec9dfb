"""What all who ask one server must know of each other: how much, how often, and whether at all."""

from __future__ import annotations

import random
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Protocol
from urllib.parse import urlsplit

from loguru import logger

from embedfleet.errors import ModelUnavailable
from embedfleet.inference.backends.batch_limit import BatchLimit
from embedfleet.inference.backends.circuit_breaker import CircuitBreaker
from embedfleet.inference.backends.congestion import Congestion
from embedfleet.inference.backends.remote_answers import Meaning
from embedfleet.inference.backends.token_bucket import TokenBucket
from embedfleet.settings import RemoteSettings


class WaitingClock(Protocol):
    """Monotonic seconds, and waiting by them."""

    def now(self) -> float: ...

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        """Until it is notified, or so many seconds have passed. The caller holds it."""
        ...


class SystemWaitingClock:
    """The machine's."""

    def now(self) -> float:
        return monotonic()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        changed.wait(seconds)


@dataclass(frozen=True, slots=True)
class Wish:
    """A request that wants to go out, charged as so many `tokens`; `urgent`: before those that are not.

    It does not want to go before `not_before`. For a server in trouble it waits no more than
    `trouble_seconds`, and not beyond `trouble_until`; whatever is in its way, not beyond `call_until`.
    """

    tokens: int
    urgent: bool
    not_before: float
    trouble_seconds: float
    trouble_until: float
    call_until: float
    given_up: threading.Event


@dataclass(slots=True)
class Sent:
    """A request on its way. Whoever sent it says what the answer meant; else it counts for nothing."""

    number: int
    probe: bool
    meaning: Meaning | None = None
    retry_after_seconds: float | None = None
    reason: str = ""


class Server:
    """One server as its clients know it; thread-safe.

    A limit is the server's, whoever asks: the lanes of a model, and catalogue entries that say the same of
    it, share one (see `server_of`).
    """

    def __init__(
        self,
        settings: RemoteSettings,
        *,
        clock: WaitingClock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.clock = clock or SystemWaitingClock()
        self.rng = rng or random.Random()
        self.address = urlsplit(settings.url).netloc
        self._changed = threading.Condition()
        self._requests = _bucket(settings.requests_per_minute)
        self._tokens = _bucket(settings.tokens_per_minute)
        self._congestion = Congestion(settings.concurrency, self.rng)
        self._breaker = CircuitBreaker()
        self._limit = BatchLimit(settings.batch_texts)
        self._sent = 0
        self._under_way = 0
        self._urgent_waiting = 0
        self._trouble = ""

    @property
    def batch_texts(self) -> int:
        """Texts that a request may have, by what was learnt so far."""
        return self._limit.texts

    def too_many_texts(self, texts: int) -> None:
        with self._changed:
            if self._limit.refused(texts):
                logger.warning(
                    "model server {}: refuses {} texts at once, gets {} from now on (remote.batch_texts)",
                    self.address,
                    texts,
                    self._limit.texts,
                )

    def not_too_many_texts(self, before: int) -> None:
        """The refusals since the limit was `before` had another reason."""
        with self._changed:
            self._limit.restore(before)

    @contextmanager
    def turn(self, wish: Wish) -> Iterator[Sent]:
        """Wait for the request's turn; while the block runs it is under way.

        Raises ModelUnavailable when the server is left alone, or the turn would come too late.
        """
        sent = self._wait(wish)
        try:
            yield sent
        finally:
            with self._changed:
                self._under_way -= 1
                self._learn(sent)
                self._changed.notify_all()

    def wake(self) -> None:
        """Those who wait look whether they have been given up."""
        with self._changed:
            self._changed.notify_all()

    def _wait(self, wish: Wish) -> Sent:
        with self._changed:
            self._urgent_waiting += wish.urgent
            try:
                while (seconds := self._seconds_to_wait(wish)) > 0:
                    self.clock.wait(self._changed, seconds)
                return self._send(wish)
            finally:
                self._urgent_waiting -= wish.urgent
                self._changed.notify_all()

    def _seconds_to_wait(self, wish: Wish) -> float:
        """At most; 0: it is its turn."""
        now = self.clock.now()
        if wish.given_up.is_set():
            raise ModelUnavailable("the model is being closed: try again on another worker")
        refused = self._breaker.refuses_for(now)
        if refused:
            raise self._unavailable(self._trouble, refused)
        spared = max(self._congestion.pause_seconds(now), wish.not_before - now)
        if spared > wish.trouble_seconds or now + spared > wish.trouble_until:
            raise self._unavailable(self._trouble, spared)
        paced = max(
            self._requests.wait_seconds(1, now) if self._requests else 0.0,
            self._tokens.wait_seconds(wish.tokens, now) if self._tokens else 0.0,
        )
        seconds = max(spared, paced)
        if now + seconds > wish.call_until:
            raise self._unavailable("has no room for more requests within its limits", seconds)
        if seconds:
            return seconds
        crowded = self._under_way >= self._congestion.window
        if crowded or (self._urgent_waiting and not wish.urgent):
            if now >= wish.call_until:
                raise self._unavailable("has been busy for too long", 0.0)
            return wish.call_until - now
        return 0.0

    def _send(self, wish: Wish) -> Sent:
        now = self.clock.now()
        if self._requests:
            self._requests.take(1, now)
        if self._tokens:
            self._tokens.take(wish.tokens, now)
        self._sent += 1
        self._under_way += 1
        return Sent(self._sent, self._breaker.let_through())

    def _learn(self, sent: Sent) -> None:
        now, was_open = self.clock.now(), self._breaker.is_open
        self._trouble = sent.reason or self._trouble
        match sent.meaning:
            case None:
                self._breaker.abandoned(probe=sent.probe)
            case Meaning.BROKEN | Meaning.DENIED:
                self._breaker.failed(now, probe=sent.probe)
            case Meaning.BUSY:
                self._breaker.answered()
                self._congestion.refused(sent.number, self._sent, now, sent.retry_after_seconds)
            case Meaning.SERVED | Meaning.REFUSED:
                self._breaker.answered()
                self._congestion.answered(sent.number)
        if self._breaker.is_open and not was_open:
            logger.warning("model server {}: left alone for a while: {}", self.address, sent.reason)
        elif was_open and not self._breaker.is_open:
            logger.info("model server {}: answers again", self.address)

    def _unavailable(self, what: str, seconds: float) -> ModelUnavailable:
        return ModelUnavailable(
            f"model server {self.address}: {what}: asked again in {seconds:.1f} s",
            retry_after_seconds=seconds,
        )


def _bucket(per_minute: float | None) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute)


_servers: weakref.WeakValueDictionary[RemoteSettings, Server] = weakref.WeakValueDictionary()
_servers_lock = threading.Lock()


def server_of(settings: RemoteSettings) -> Server:
    """The process's one `Server` of these settings, known as long as somebody has it.

    A module's own and not the catalogue's: lanes are opened one by one, each on its thread, and a process may
    have several catalogues, yet the server counts all their requests together.
    """
    with _servers_lock:
        server = _servers.get(settings)
        if server is None:
            server = _servers[settings] = Server(settings)
        return server
