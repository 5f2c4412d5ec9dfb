"""What all requests to one server share: how many may go out, how fast, and whether any may at all."""

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
        """Wait until `changed` is notified or `seconds` have passed. The caller holds `changed`."""
        ...


class SystemWaitingClock:
    """The machine's clock."""

    def now(self) -> float:
        return monotonic()

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        changed.wait(seconds)


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A request that waits for its turn to go out. Times are seconds of the server's clock.

    It is charged as `tokens` tokens; an `urgent` one goes before those that are not. It does not go out
    before `not_before`. While the server is in trouble it waits at most `trouble_seconds`, and not beyond
    `trouble_until`; whatever the reason for waiting, not beyond `call_until`. Once `interrupted` is set it
    waits no more.
    """

    tokens: int
    urgent: bool
    not_before: float
    trouble_seconds: float
    trouble_until: float
    call_until: float
    interrupted: threading.Event


@dataclass(slots=True)
class SentRequest:
    """A request under way. Its sender fills in what the answer meant; left at None, it teaches nothing.

    `number` counts the requests to this server in the order they went out. `probe`: its outcome decides
    whether the circuit breaker closes.
    """

    number: int
    probe: bool
    meaning: Meaning | None = None
    retry_after_seconds: float | None = None
    reason: str = ""


class Server:
    """One server as its clients know it; thread-safe.

    The server's limits hold for all requests together. So the replicas of a model, and catalogue entries with
    the same `remote` settings, share one object (see `server_of`).
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
        # Guards every field below; notified when any of them changes, as a waiting request may go out then.
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
        """Texts that a request may have, as far as is known."""
        return self._limit.texts

    def lower_batch_limit(self, texts: int) -> None:
        """The server refused a request because it had `texts` texts."""
        with self._changed:
            if self._limit.refused(texts):
                logger.warning(
                    "model server {}: refuses {} texts at once, gets {} from now on (remote.batch_texts)",
                    self.address,
                    texts,
                    self._limit.texts,
                )

    def restore_batch_limit(self, texts: int) -> None:
        """Allow `texts` texts again: the refusals that lowered the limit had another reason."""
        with self._changed:
            self._limit.restore(texts)

    @contextmanager
    def turn(self, request: TurnRequest) -> Iterator[SentRequest]:
        """Wait for the request's turn; while the block runs the request counts as under way.

        Raises ModelUnavailable when the circuit breaker is open, when the turn would come too late, or when
        the request is interrupted.
        """
        sent = self._wait_for_turn(request)
        try:
            yield sent
        finally:
            with self._changed:
                self._under_way -= 1
                self._learn(sent)
                self._changed.notify_all()

    def wake(self) -> None:
        """Let the waiting requests look whether they have been interrupted."""
        with self._changed:
            self._changed.notify_all()

    def _wait_for_turn(self, request: TurnRequest) -> SentRequest:
        # The look and the sending are one step under the lock: otherwise two requests could both see the
        # last free place.
        with self._changed:
            self._urgent_waiting += request.urgent
            try:
                while (seconds := self._seconds_to_wait(request)) > 0:
                    self.clock.wait(self._changed, seconds)
                return self._send(request)
            finally:
                self._urgent_waiting -= request.urgent
                # The requests that are not urgent wait for this counter to become 0.
                self._changed.notify_all()

    def _seconds_to_wait(self, request: TurnRequest) -> float:
        """How long the request waits before it looks again; 0: it is its turn."""
        now = self.clock.now()
        if request.interrupted.is_set():
            raise ModelUnavailable("the model is being closed: try again on another worker")
        breaker_seconds = self._breaker.refuses_for(now)
        if breaker_seconds:
            raise self._unavailable(self._trouble, breaker_seconds)
        trouble_seconds = max(self._congestion.pause_seconds(now), request.not_before - now)
        if trouble_seconds > request.trouble_seconds or now + trouble_seconds > request.trouble_until:
            raise self._unavailable(self._trouble, trouble_seconds)
        seconds = max(trouble_seconds, self._rate_limit_seconds(request.tokens, now))
        if now + seconds > request.call_until:
            raise self._unavailable("has no room for more requests within its limits", seconds)
        if seconds:
            return seconds
        window_full = self._under_way >= self._congestion.window
        urgent_first = self._urgent_waiting > 0 and not request.urgent
        if window_full or urgent_first:
            if now >= request.call_until:
                raise self._unavailable("has been busy for too long", 0.0)
            # Both ends come with a notification, so this is only the longest wait.
            return request.call_until - now
        return 0.0

    def _rate_limit_seconds(self, tokens: int, now: float) -> float:
        return max(
            self._requests.wait_seconds(1, now) if self._requests else 0.0,
            self._tokens.wait_seconds(tokens, now) if self._tokens else 0.0,
        )

    def _send(self, request: TurnRequest) -> SentRequest:
        now = self.clock.now()
        if self._requests:
            self._requests.take(1, now)
        if self._tokens:
            self._tokens.take(request.tokens, now)
        self._sent += 1
        self._under_way += 1
        return SentRequest(self._sent, self._breaker.let_through())

    def _learn(self, sent: SentRequest) -> None:
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

    def _unavailable(self, reason: str, seconds: float) -> ModelUnavailable:
        return ModelUnavailable(
            f"model server {self.address}: {reason}: asked again in {seconds:.1f} s",
            retry_after_seconds=seconds,
        )


def _bucket(per_minute: float | None) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute)


_servers: weakref.WeakValueDictionary[RemoteSettings, Server] = weakref.WeakValueDictionary()
# Replicas ask from threads of their own, all at once when a model is loaded: without the lock each could make
# a `Server` of its own.
_servers_lock = threading.Lock()


def server_of(settings: RemoteSettings) -> Server:
    """The process's one `Server` of these settings, kept as long as a backend refers to it.

    The module keeps it and not the catalogue: a process may have several catalogues, and the server counts
    all their requests together.
    """
    with _servers_lock:
        server = _servers.get(settings)
        if server is None:
            server = _servers[settings] = Server(settings)
        return server
