"""Backend `remote`: a server with an OpenAI-compatible `POST {url}/embeddings`.

The weights are the server's, so in the space the name of its model and the `revision` of the settings stand
for them; its address does not. The backend therefore checks each answer: vectors that another model made, or
that have another dimension, are refused, and the work waits until a person has looked.
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
from embedfleet.inference.backends.admission import ANY_TOKEN_ID, admit
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
from embedfleet.inference.backends.remote_server import SentRequest, Server, TurnRequest, server_of
from embedfleet.inference.description import Description, Place
from embedfleet.inference.model_files import ModelFiles, bundled_tokenizer, model_folder, required_file
from embedfleet.retry import BackOff
from embedfleet.settings import ModelSettings, RemoteSettings

adds_special_tokens = True
"""The server adds them, and the limit of its model counts them."""

pools = False
pads = False

_TRIES = 3
_FIRST_BACK_OFF_SECONDS = 0.5
_LONGEST_BACK_OFF_SECONDS = 5.0
# Sent to learn whether the server takes any text at all.
_HARMLESS_TEXTS = ("embedfleet",)
_ADVICE_BY_STATUS = {
    401: "check `remote.api_key`",
    402: "check the account",
    403: "check `remote.api_key`, and what it may use",
    404: "check `remote.url` and `remote.model`",
}


@dataclass(frozen=True, slots=True)
class _WaitLimits:
    """How long one call may wait, in seconds.

    `trouble_seconds`: for a server in trouble; after that the tasks wait in the queue, which takes no thread.
    `call_seconds`: for its turns within the server's rate limits, all requests of the call together.
    `answer_seconds`: for one answer, if the settings do not say less.
    """

    trouble_seconds: float
    call_seconds: float
    answer_seconds: float = math.inf


# With the time of a last request less than the default of `models.stuck_after_seconds`, 300.
_BULK_LIMITS = _WaitLimits(trouble_seconds=20.0, call_seconds=180.0)
# A person waits, and a search is answered within half a minute or not at all.
_QUERY_LIMITS = _WaitLimits(trouble_seconds=5.0, call_seconds=10.0, answer_seconds=15.0)


def find_files(settings: ModelSettings) -> ModelFiles:
    remote = _remote(settings)
    if settings.dim is None:
        raise ModelError("`dim` is not set: say how many values the server's vectors have")
    folder = model_folder(settings)
    return ModelFiles(
        weights=(),
        weights_sha256=_weights_identity(settings, remote),
        tokenizer=required_file(folder / "tokenizer.json") if folder else bundled_tokenizer(),
        dim=settings.dim,
        max_tokens=None,
        needs_texts=True,
        texts_per_call=remote.batch_texts,
    )


def devices(settings: ModelSettings) -> Sequence[str]:
    """One replica for each request that may be under way: its thread sends the request and waits."""
    return ("remote",) * _remote(settings).concurrency


def open_backend(model: Description, place: Place) -> RemoteBackend:
    return RemoteBackend(model, server_of(_remote(model.settings)))


class RemoteBackend:
    """One replica to a server. All replicas share what one of them learns of the server.

    A blank text is refused and not sent: servers disagree about it, and no search could find it.
    """

    def __init__(self, model: Description, server: Server) -> None:
        """Raises ModelError if the file of certificates cannot be used."""
        self.info = model.core
        self._normalise = model.settings.normalise
        self._remote = _remote(model.settings)
        self._server = server
        self._client = RemoteClient(self._remote, model.core.dim)
        self._interrupted = threading.Event()

    def embed_tokens(self, batch: TokenBatch) -> NDArray[np.float32]:
        """As the port says. The ModelError of a text quotes the server's reason for refusing it."""
        texts = self._admitted(batch)
        vectors = np.empty((len(texts), self.info.dim), dtype=np.float32)
        call = _Call(batch.role == "query", self._server.clock.now(), self._server.batch_texts)
        start = 0
        while start < len(texts):
            # The limit is read for each request, as any replica may have lowered it since the last one.
            end = min(start + self._server.batch_texts, len(texts))
            answer = self._ask(call, texts[start:end], int(batch.lengths[start:end].sum()))
            if isinstance(answer, Answer):
                self._handle_refusal(call, texts[start:end], answer)
            else:
                vectors[start:end] = answer
                start = end
        return l2_normalised(vectors) if self._normalise else vectors

    def interrupt(self) -> None:
        """A request that waits for its turn raises ModelUnavailable, now and from now on. One that waits for
        an answer goes on waiting."""
        # In this order: a request that wakes must find the event set.
        self._interrupted.set()
        self._server.wake()

    def close(self) -> None:
        self._client.close()

    def _admitted(self, batch: TokenBatch) -> Sequence[str]:
        admit(batch, self.info, ANY_TOKEN_ID)
        if batch.texts is None:
            raise ModelError(f"model {self.info.name}: a server needs the texts, there are only token ids")
        if any(not text.strip() for text in batch.texts):
            raise ModelError(f"model {self.info.name}: a blank text has nothing to embed")
        return batch.texts

    def _ask(self, call: _Call, texts: Sequence[str], tokens: int) -> NDArray[np.float32] | Answer:
        """float32 (n, dim), or the answer that refuses these texts. Raises ModelUnavailable when the server
        does not serve the request after some tries, or would not in time."""
        clock = self._server.clock
        back_off = BackOff(_FIRST_BACK_OFF_SECONDS, _LONGEST_BACK_OFF_SECONDS, self._server.rng)
        not_before, trouble_until = clock.now(), math.inf
        while True:
            request = call.turn_request(tokens, not_before, trouble_until, self._interrupted)
            with self._server.turn(request) as sent:
                sent_at = clock.now()
                outcome = self._exchange(call, texts, sent)
            if outcome is not None:
                return outcome
            if sent.meaning is Meaning.BROKEN:
                back_off.add_failure()
            if sent.meaning is Meaning.DENIED or back_off.failures >= _TRIES:
                raise ModelUnavailable(f"model {self.info.name}: {self._server.address} {sent.reason}")
            trouble_until = min(trouble_until, sent_at + call.limits.trouble_seconds)
            if back_off.failures:
                not_before = clock.now() + back_off.pause_seconds()

    def _exchange(
        self, call: _Call, texts: Sequence[str], sent: SentRequest
    ) -> NDArray[np.float32] | Answer | None:
        """One request, and what its answer means, noted in `sent`. Returns the vectors, or the answer that
        refuses these texts; None if the server did not serve the request: then `sent` has the reason."""
        try:
            answer = self._client.post(texts, min(self._remote.timeout_seconds, call.limits.answer_seconds))
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
        if answer.status in (401, 403):  # the server's message is left out: some quote a part of the key
            return f"answered {answer.status}: {_ADVICE_BY_STATUS[answer.status]}"
        if 300 <= answer.status < 400:
            return f"answered {answer.status}: it redirects, which is not followed: check `remote.url`"
        advice = _ADVICE_BY_STATUS.get(answer.status)
        explanation = self._client.explained(answer, texts)
        return f"{explanation}: {advice}" if advice else explanation

    def _handle_refusal(self, call: _Call, texts: Sequence[str], refusal: Answer) -> None:
        """Return if there were too many texts: requests have fewer from now on. Otherwise raise ModelError,
        because it is the fault of a text."""
        if len(texts) > 1 and is_about_batch(refusal):
            self._server.lower_batch_limit(len(texts))
            return
        if len(texts) == 1:
            # A refusal that seemed to be about the number of texts was about this text.
            self._server.restore_batch_limit(call.batch_texts)
            self._require_takes_any_text(call)
        explanation = self._client.explained(refusal, texts)
        raise ModelError(f"model {self.info.name}: {self._server.address} {explanation}")

    def _require_takes_any_text(self, call: _Call) -> None:
        """Raise ModelUnavailable if the server refuses a harmless text, too. A text is given up for good only
        if the server takes another one at this moment: a server that is set up wrongly takes none, and all
        texts would be lost."""
        refusal = self._ask(call, _HARMLESS_TEXTS, 1)
        if isinstance(refusal, Answer):
            explanation = self._client.explained(refusal, ())
            raise ModelUnavailable(
                f"model {self.info.name}: {self._server.address} refuses every text, {explanation}: "
                "check `remote`"
            )


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of the backend. `began_at`: seconds of the server's clock; `batch_texts`: the limit then."""

    urgent: bool
    began_at: float
    batch_texts: int

    @property
    def limits(self) -> _WaitLimits:
        return _QUERY_LIMITS if self.urgent else _BULK_LIMITS

    def turn_request(
        self, tokens: int, not_before: float, trouble_until: float, interrupted: threading.Event
    ) -> TurnRequest:
        return TurnRequest(
            tokens=tokens,
            urgent=self.urgent,
            not_before=not_before,
            trouble_seconds=self.limits.trouble_seconds,
            trouble_until=trouble_until,
            call_until=self.began_at + self.limits.call_seconds,
            interrupted=interrupted,
        )


def _remote(settings: ModelSettings) -> RemoteSettings:
    if settings.remote is None:
        raise ModelError("`remote` is not set: it needs the server's `url` and `model`")
    return settings.remote


def _weights_identity(settings: ModelSettings, remote: RemoteSettings) -> str:
    """Stands for the hash of weights that are on the server. A model that is asked for fewer dimensions
    counts as another model."""
    parts = [remote.model, settings.revision, settings.dim if remote.send_dimensions else None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
