"""The messages between the parser's parent and child: msgpack with a length before it, never pickle.

The parent sends one Request a file, perhaps many at once. The child takes one after the other, and answers
each with Accepted, any number of Text, and one Done or Refused.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import BinaryIO

import msgpack

from embedfleet.account import Account, Entry
from embedfleet.account_codes import Code
from embedfleet.framing import framed, read_frame
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import ContentType, Format, ParsedDocument
from embedfleet.places import Places

MAX_REPLY_BYTES = 1 << 23
"""The parent refuses longer messages: a hostile file may have taken control of the child."""

TEXT_CHARS = 1 << 18
"""How many characters a Text may have. In UTF-8 that is at most 1 MiB, well below MAX_REPLY_BYTES."""

EXIT_OUT_OF_MEMORY = 3
"""The child's exit status after an allocation failed, as it can send no message then."""


@dataclass(frozen=True, slots=True)
class Request:
    """Read the file at `path` (encoded for the file system), or `data`. `form` None: detect the format.

    `more`: another request follows at once. So the child sends the end of its answer together with the
    beginning of the next one, which saves a call of the system on each side.
    """

    form: Format | None
    path: bytes | None
    data: bytes | None
    more: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The request has arrived. The file is not to blame if the child dies before it sends this."""


@dataclass(frozen=True, slots=True)
class Text:
    """The next piece of the document."""

    text: str


@dataclass(frozen=True, slots=True)
class Done:
    """The whole document has been sent.

    `found` and `entries` are the fields of its Account, `pages` and `cues` those of its Places. `source_hash`
    is the hash of the bytes that were read; None for a file too large to be read at once.
    """

    content_type: ContentType
    found: tuple[tuple[str, int], ...]
    entries: tuple[tuple[str, int, int | None, tuple[str, ...]], ...]
    title: str | None
    pages: tuple[tuple[int, int], ...]
    cues: tuple[tuple[int, float, float], ...]
    source_hash: str | None

    @classmethod
    def of(cls, content_type: ContentType, draft: Draft, source_hash: str | None) -> Done:
        """The message about a document of which everything is written."""
        account, places = draft.account.account, draft.places
        entries = tuple((one.code.value, one.count, one.chars, one.places) for one in account.entries)
        return cls(content_type, account.found, entries, draft.title, places.pages, places.cues, source_hash)

    def document(self, text: str) -> ParsedDocument:
        """The document with this text. Raises ValueError or TypeError if the message is not one of ours."""
        entries = tuple(
            Entry(Code(code), count, chars, tuple(places)) for code, count, chars, places in self.entries
        )
        return ParsedDocument(
            text,
            self.content_type,
            Account(self.found, entries),
            self.source_hash,
            self.title,
            Places(self.pages, self.cues),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """The file cannot be read; the parent drops its text. In a message, `reason` follows the file's name.

    `empty`: there is no text in it.
    """

    reason: str
    empty: bool = False


Reply = Accepted | Text | Done | Refused
_KINDS = {kind.__name__: kind for kind in (Request, Accepted, Text, Done, Refused)}
_FIELDS = {kind: tuple(field.name for field in fields(kind)) for kind in _KINDS.values()}


def encode(message: Request | Reply) -> bytes:
    """The message as bytes, with its length before it."""
    kind = type(message)
    body: bytes = msgpack.packb([kind.__name__, *[getattr(message, name) for name in _FIELDS[kind]]])
    return framed(body)


def decode(body: bytes) -> Request | Reply:
    """The message in these bytes, without the length. Raises ValueError or TypeError for other bytes."""
    name, *values = msgpack.unpackb(body, use_list=False)
    kind = _KINDS.get(name)
    if kind is None:
        raise ValueError(f"no such message: {name!r}")
    return kind(*values)


def read(stream: BinaryIO) -> Request | Reply | None:
    """Read the next message from a pipe; None at its end."""
    body = read_frame(stream)
    return None if body is None else decode(body)
