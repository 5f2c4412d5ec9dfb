"""What is said through the pipe arrives as it was said; anything else is recognised."""

from __future__ import annotations

import io

import msgpack
import pytest

from embedfleet.account_codes import Code
from embedfleet.framing import LENGTH
from embedfleet.parsing import frames
from embedfleet.parsing.draft import Draft
from embedfleet.parsing.formats import Format, ParsedDocument
from embedfleet.parsing.frames import Accepted, Done, Refused, Reply, Request, Text
from embedfleet.places import Places


def full_draft() -> Draft:
    draft = Draft(lambda text: None)
    draft.begin_page(1)
    draft.write("größe")
    draft.begin_cue(0.5, 2.25)
    draft.title = "Maße"
    draft.found("pages", 3)
    draft.note(Code.HIDDEN, count=2, chars=40, place="line 3")
    draft.note(Code.HTML_LAYOUT, chars=None)
    return draft


def test_a_document_arrives_with_its_account_and_places() -> None:
    draft = full_draft()
    document = Done.of("markdown", draft, "hash").document("größe")
    assert document == ParsedDocument(
        "größe", "markdown", draft.account.account, "hash", "Maße", Places(((0, 1),), ((5, 0.5, 2.25),))
    )


@pytest.mark.parametrize(
    "message",
    [
        Request(Format.PDF, b"/a/\xff.pdf", None),
        Request(None, None, b"\x00data"),
        Accepted(),
        Text("größe 😀"),
        Done.of("markdown", full_draft(), "hash"),
        Refused("is empty"),
    ],
)
def test_a_message_arrives_as_it_was_sent(message: Request | Reply) -> None:
    stream = io.BytesIO(frames.encode(message) * 2)
    assert frames.read(stream) == message
    assert frames.read(stream) == message
    assert frames.read(stream) is None


@pytest.mark.parametrize("body", [b"", b"\xc1", msgpack.packb(["Nothing", 1]), msgpack.packb(["Text"])])
def test_anything_else_is_an_error_that_readers_expect(body: bytes) -> None:
    with pytest.raises((ValueError, TypeError)):
        frames.decode(body)


def test_the_largest_text_message_is_far_below_what_the_parent_accepts() -> None:
    assert len(frames.encode(Text("😀" * frames.TEXT_CHARS))) - LENGTH.size < frames.MAX_REPLY_BYTES
