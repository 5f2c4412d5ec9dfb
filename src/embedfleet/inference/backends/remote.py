"""A server with an OpenAI-compatible `POST {url}/embeddings`.

What decides a vector is the server's: its model's name, and the `revision` of the settings, stand for it in
the space, not its address. So it is held to its word: what another model made, or has another dimension, is
no vector, and the work waits until a person has looked.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import ModelError, ModelUnavailable
from embedfleet.inference.backend import TokenBatch
from embedfleet.inference.backends.admission import admit
from embedfleet.inference.backends.normalise import l2_normalised
from embedfleet.inference.backends.remote_answers import (
    Answer,
    Meaning,
    UnusableAnswer,
    is_about_batch,
    meaning_of,
    read_vectors,
    retry_after_seconds,
)
from embedfleet.inference.backends.remote_client import NoAnswer, RemoteClient
from embedfleet.inference.backends.remote_server import Sent, Server, Wish, server_of
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import ModelFiles, bundled_tokenizer, model_folder, required_file
from embedfleet.retry import retry_delay_seconds
from embedfleet.settings import ModelSettings, RemoteSettings

adds_special_tokens = True
"""The server does, and its model's limit counts them."""

pools = False
pads = False

_ANY_ID = 2**32
_TRIES = 3
_FIRST_BACK_OFF_SECONDS = 0.5
_LONGEST_BACK_OFF_SECONDS = 5.0
# A text that every server takes.
_HARMLESS = ("embedfleet",)
_CHECK = {
    401: "check `remote.api_key`",
    402: "check the account",
    403: "check `remote.api_key`, and what it may use",
    404: "check `remote.url` and `remote.model`",
}


@dataclass(frozen=True, slots=True)
class _Patience:
    """`trouble_seconds`: how long a request waits for a server in trouble; then its tasks wait, which takes
    no thread. `call_seconds`: how long a call may wait for its turn within the contract's limits.
    `answer_seconds`: how long an answer may take, if the settings do not say less.
    """

    trouble_seconds: float
    call_seconds: float
    answer_seconds: float = math.inf


# With the time of a last request less than `models.stuck_after_seconds`.
_BULK = _Patience(trouble_seconds=20.0, call_seconds=180.0)
# A person waits, and a search is answered within half a minute or not at all.
_QUERY = _Patience(trouble_seconds=5.0, call_seconds=10.0, answer_seconds=15.0)


def find_files(settings: ModelSettings) -> ModelFiles:
    remote = _remote(settings)
    if settings.dim is None:
        raise ModelError("`dim` is not set: say how many values the server's vectors have")
    folder = model_folder(settings)
    return ModelFiles(
        weights=(),
        weights_sha256=_identity(settings, remote),
        tokenizer=required_file(folder / "tokenizer.json") if folder else bundled_tokenizer(),
        dim=settings.dim,
        max_tokens=None,
        needs_texts=True,
        texts_per_call=remote.batch_texts,
    )


def devices(settings: ModelSettings) -> Sequence[str]:
    """One lane for each request that may be under way."""
    return ("remote",) * _remote(settings).concurrency


def open_backend(model: Description, place: Place) -> RemoteBackend:
    return RemoteBackend(model, server_of(_remote(model.settings)))


class RemoteBackend:
    """One lane to a server. What one lane learns of the server, all know.

    A blank text is refused, not sent: servers disagree about it, and it has nothing to be found by.
    """

    def __init__(self, model: Description, server: Server) -> None:
        """Raises ModelError if the file of certificates cannot be used."""
        self.info = model.core
        self._normalise = model.settings.normalise
        self._remote = _remote(model.settings)
        self._server = server
        self._client = RemoteClient(self._remote, model.core.dim)
        self._given_up = threading.Event()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        """As promised; the ModelError of a text says in the server's words why it was refused."""
        texts = self._admitted(batch)
        vectors = np.empty((len(texts), self.info.dim), dtype=np.float32)
        call = _Call(batch.role == "query", self._server.clock.now(), self._server.batch_texts)
        start = 0
        while start < len(texts):
            end = min(start + self._server.batch_texts, len(texts))
            answer = self._ask(call, texts[start:end], int(batch.lengths[start:end].sum()))
            if isinstance(answer, Answer):
                self._require_fewer_texts(call, texts[start:end], answer)
            else:
                vectors[start:end] = answer
                start = end
        return l2_normalised(vectors) if self._normalise else vectors

    def interrupt(self) -> None:
        """What waits for its turn raises ModelUnavailable, now and from now on; an answer is waited for."""
        self._given_up.set()
        self._server.wake()

    def close(self) -> None:
        self._client.close()

    def _admitted(self, batch: TokenBatch) -> Sequence[str]:
        admit(batch, self.info, _ANY_ID)
        if batch.texts is None:
            raise ModelError(f"model {self.info.name}: a server needs the texts, there are only token ids")
        if any(not text.strip() for text in batch.texts):
            raise ModelError(f"model {self.info.name}: a blank text has nothing to embed")
        return batch.texts

    def _ask(self, call: _Call, texts: Sequence[str], tokens: int) -> NDArray[np.float32] | Answer:
        """float32 (n, dim), or the answer that refuses these texts. Raises ModelUnavailable when the server
        does not serve after some tries, or would not in time."""
        clock = self._server.clock
        failures, not_before, trouble_until = 0, clock.now(), math.inf
        while True:
            with self._server.turn(call.wish(tokens, not_before, trouble_until, self._given_up)) as sent:
                sent_at = clock.now()
                outcome = self._exchange(call, texts, sent)
            if outcome is not None:
                return outcome
            failures += sent.meaning is Meaning.BROKEN
            if sent.meaning is Meaning.DENIED or failures >= _TRIES:
                raise ModelUnavailable(f"model {self.info.name}: {self._server.address} {sent.reason}")
            trouble_until = min(trouble_until, sent_at + call.patience.trouble_seconds)
            if failures:
                not_before = clock.now() + retry_delay_seconds(
                    failures,
                    base=_FIRST_BACK_OFF_SECONDS,
                    cap=_LONGEST_BACK_OFF_SECONDS,
                    rng=self._server.rng,
                )

    def _exchange(self, call: _Call, texts: Sequence[str], sent: Sent) -> NDArray[np.float32] | Answer | None:
        """As `_ask`, once; None: it did not serve, and `sent` says why."""
        try:
            answer = self._client.post(texts, min(self._remote.timeout_seconds, call.patience.answer_seconds))
            sent.meaning = meaning_of(answer)
            if sent.meaning is Meaning.SERVED:
                return self._vectors(answer, len(texts))
        except NoAnswer as exc:
            sent.meaning, sent.reason = Meaning.BROKEN, str(exc)
            return None
        except UnusableAnswer as exc:
            sent.meaning = Meaning.DENIED if exc.other_model else Meaning.BROKEN
            sent.reason = str(exc)
            return None
        if sent.meaning is Meaning.REFUSED:
            return answer
        sent.retry_after_seconds = retry_after_seconds(answer.headers, time.time())
        sent.reason = self._reason(answer, texts)
        return None

    def _vectors(self, answer: Answer, texts: int) -> NDArray[np.float32]:
        names = [name for name in (self._remote.model, self._remote.answers_as) if name]
        return read_vectors(answer.body, texts=texts, dim=self.info.dim, models=names)

    def _reason(self, answer: Answer, texts: Sequence[str]) -> str:
        if answer.status in (401, 403):  # some of these messages quote the key in part
            return f"answered {answer.status}: {_CHECK[answer.status]}"
        if 300 <= answer.status < 400:
            return f"answered {answer.status}: it redirects, which is not followed: check `remote.url`"
        advice = _CHECK.get(answer.status)
        said = self._client.explained(answer, texts)
        return f"{said}: {advice}" if advice else said

    def _require_fewer_texts(self, call: _Call, texts: Sequence[str], refusal: Answer) -> None:
        """Return if it was their number, which is less from now on; else ModelError: it is a text's fault."""
        if len(texts) > 1 and is_about_batch(refusal):
            self._server.too_many_texts(len(texts))
            return
        if len(texts) == 1:
            self._server.not_too_many_texts(call.batch_texts)
            self._require_takes_any(call)
        said = self._client.explained(refusal, texts)
        raise ModelError(f"model {self.info.name}: {self._server.address} {said}")

    def _require_takes_any(self, call: _Call) -> None:
        """A text is given up for good only if the server takes another: one that is set up wrongly takes
        none, and all texts would be lost to it."""
        refusal = self._ask(call, _HARMLESS, 1)
        if isinstance(refusal, Answer):
            said = self._client.explained(refusal, ())
            raise ModelUnavailable(
                f"model {self.info.name}: {self._server.address} refuses every text, {said}: check `remote`"
            )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the backend: whose it is, since when, and what limit was known then."""

    urgent: bool
    since: float
    batch_texts: int

    @property
    def patience(self) -> _Patience:
        return _QUERY if self.urgent else _BULK

    def wish(self, tokens: int, not_before: float, trouble_until: float, given_up: threading.Event) -> Wish:
        return Wish(
            tokens=tokens,
            urgent=self.urgent,
            not_before=not_before,
            trouble_seconds=self.patience.trouble_seconds,
            trouble_until=trouble_until,
            call_until=self.since + self.patience.call_seconds,
            given_up=given_up,
        )


def _remote(settings: ModelSettings) -> RemoteSettings:
    if settings.remote is None:
        raise ModelError("`remote` is not set: it needs the server's `url` and `model`")
    return settings.remote


def _identity(settings: ModelSettings, remote: RemoteSettings) -> str:
    """What stands for weights that are elsewhere. A model that is asked for fewer dimensions is another."""
    parts = [remote.model, settings.revision, settings.dim if remote.send_dimensions else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
