"""What an embedding server's answer means: pure functions from status, headers and body."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedfleet.errors import one_line

_LONGEST_MESSAGE = 200
# A message quotes a text if it has 16 characters in a row of it: fewer may be a coincidence. A shorter text
# must stand in it whole, and have at least 6 characters.
_QUOTED_CHARS = 16
_FEWEST_QUOTED_CHARS = 6
# Examples of messages that it matches:
# "batch size 64 > 32", "array too long", "too many inputs", "at most 96 texts", "list should have at most".
_ABOUT_BATCH = re.compile(
    r"batch|array|\blist\b|too many (inputs|texts|items|documents|strings|sentences)"
    r"|(number|max\w*|at most \d+|up to \d+)( of)? (inputs|texts|items|documents|strings|sentences)"
    r"|per request",
    re.IGNORECASE,
)


class Meaning(Enum):
    """What the client does about an answer."""

    SERVED = "read the vectors"
    BUSY = "wait as long as it says, then ask again"
    BROKEN = "ask again a few times"
    DENIED = "a person must look: key, address, model"
    REFUSED = "something about the texts: their number, or one of them"


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole HTTP answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class UnusableAnswer(Exception):
    """The server answered with status 200 and without usable vectors. `other_model`: the vectors are another
    model's, so that asking again does not help."""

    def __init__(self, reason: str, *, other_model: bool = False) -> None:
        super().__init__(reason)
        self.other_model = other_model


def meaning_of(answer: Answer) -> Meaning:
    """What the status says; a served answer must still be read."""
    status = answer.status
    if 200 <= status < 300:
        return Meaning.SERVED
    if status == 429 or (status == 503 and "retry-after" in answer.headers):
        return Meaning.BUSY
    if status >= 500 or status == 408:
        return Meaning.BROKEN
    if status in (400, 413, 422):
        return Meaning.REFUSED
    return Meaning.DENIED


def is_about_batch(answer: Answer) -> bool:
    """Whether a refusal is about the number of texts and not about one of them. A 413 without a message, as
    proxies send it, counts as being about the number."""
    message = _error_message(answer.body)
    return bool(_ABOUT_BATCH.search(message)) or (answer.status == 413 and not message)


def retry_after_seconds(headers: Mapping[str, str], unix_now: float) -> float | None:
    """The seconds that `Retry-After` asks for; None if it is missing or cannot be read.

    It may be a number of seconds, or a date. A date is compared with the server's own `Date`, if it sent one,
    as its clock may differ from ours.
    """
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        due = _date(value)
        now = _date(headers.get("date", ""))
        if due is None:
            return None
        seconds = due.timestamp() - (unix_now if now is None else now.timestamp())
    return max(0.0, seconds) if math.isfinite(seconds) else None


def explained(answer: Answer, texts: Iterable[str], secret: str | None) -> str:
    """Status and message in one short line. The message is left out if it quotes one of the `texts` or the
    `secret`, because the line goes to the log."""
    message = _error_message(answer.body)
    has_secret = bool(secret and secret in message)
    if not message or has_secret or any(_quotes(message, text) for text in texts):
        return f"answered {answer.status}"
    if len(message) > _LONGEST_MESSAGE:
        message = f"{message[:_LONGEST_MESSAGE]} ..."
    return f"answered {answer.status} ({message})"


def read_vectors(body: bytes, *, texts: int, dim: int, models: Sequence[str]) -> NDArray[np.float32]:
    """float32 (texts, dim); row i is text i, whatever the order in the answer. A row that is not finite is
    returned as it is: it says that the model failed on this text.

    Raises UnusableAnswer unless there is one vector of `dim` for each text, made by one of `models`.
    """
    try:
        document = json.loads(body)
        made_by = document.get("model")
        rows = document["data"]
        order = [int(row.get("index", place)) for place, row in enumerate(rows)]
        vectors = [row["embedding"] for row in rows]
        widths = {len(vector) for vector in vectors}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise UnusableAnswer(f"no embeddings in its answer ({type(exc).__name__})") from exc
    if isinstance(made_by, str) and not any(_same_model(made_by, name) for name in models):
        raise UnusableAnswer(
            f"answers as model `{made_by[:_LONGEST_MESSAGE]}`, not `{models[0]}`: another model's vectors "
            "must not be mixed in; if it is the same, set `remote.answers_as`",
            other_model=True,
        )
    if sorted(order) != list(range(texts)):
        raise UnusableAnswer(f"{len(order)} embeddings for {texts} texts, or not one for each")
    if widths != {dim}:
        raise UnusableAnswer(
            f"vectors of dimension {', '.join(map(str, sorted(widths)))}, `dim` is {dim}: is it the right "
            "model? Correct `model`, `dim` or `remote.send_dimensions`",
            other_model=True,
        )
    found = np.empty((texts, dim), dtype=np.float32)
    try:
        with np.errstate(over="ignore"):  # a value too large for a float32 becomes infinite
            found[order] = vectors
    except (ValueError, TypeError, OverflowError) as exc:
        raise UnusableAnswer("its embeddings are not numbers") from exc
    return found


def _same_model(one: str, other: str) -> bool:
    """Whether two names are of one model: servers may answer with a path or a tag where a name was sent."""
    return _bare_name(one) == _bare_name(other)


def _bare_name(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower().removesuffix(":latest")


def _error_message(body: bytes) -> str:
    """The message of an error, in one line; empty if it is in none of the usual places."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    return one_line(" ".join(_messages(document)))


def _messages(node: Any) -> Iterable[str]:
    """OpenAI: error.message; TEI: error, error_type; FastAPI: detail, or its list of msg; others: message."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, list):
        for member in node[:3]:
            yield from _messages(member)
    elif isinstance(node, Mapping):
        for name in ("error", "message", "detail", "msg"):
            yield from _messages(node.get(name))


def _quotes(message: str, text: str) -> bool:
    text = one_line(text)
    size = min(_QUOTED_CHARS, len(text))
    if size < _FEWEST_QUOTED_CHARS:
        return False
    return any(message[start : start + size] in text for start in range(len(message) - size + 1))


def _date(value: str) -> datetime | None:
    try:
        return parsedate_to_datetime(value)
    except ValueError:
        return None
