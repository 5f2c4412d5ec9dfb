"""What goes into the pipe comes out of it, and the end of the pipe is the end."""

from __future__ import annotations

import asyncio

import pytest

from embedfleet.errors import BrokerUnavailable, StorageFull, Transient
from embedfleet.launchers.channel import (
    Command,
    Failure,
    Order,
    Report,
    pack,
    pack_trouble,
    receive,
    unpack_trouble,
)
from embedfleet.queue_schemas import Stage


def reader_of(*chunks: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for chunk in chunks:
        reader.feed_data(chunk)
    reader.feed_eof()
    return reader


MESSAGES: list[Order | Command | Report | Failure] = [
    Order(Stage.EMBEDDING, "embedding-0", '{"redis": {"url": "redis://:secret@h"}}', 42),
    Command.DRAIN,
    Command.ABORT,
    Report(True, ("StorageFull", "disk full"), 123, [("embedding_x_total", (("stage", "chunking"),), 1.5)]),
    Report(False, None, 0, [], ("minilm", "static")),
    Failure("model `x`: not there"),
]


async def test_every_message_arrives_as_it_was_sent_however_the_pipe_cuts_it() -> None:
    sent = b"".join(pack(message) for message in MESSAGES)
    reader = reader_of(*(sent[i : i + 7] for i in range(0, len(sent), 7)))
    assert [await receive(reader) for _ in MESSAGES] == MESSAGES
    assert await receive(reader) is None


async def test_a_frame_cut_off_by_a_death_is_no_message() -> None:
    assert await receive(reader_of(pack(MESSAGES[0])[:-1])) is None


async def test_what_is_no_frame_of_ours_is_not_waited_for() -> None:
    assert await receive(reader_of(b"Traceback (most recent call last):\n")) is None


@pytest.mark.parametrize("trouble", [None, StorageFull("disk full"), Transient("closing")])
def test_trouble_keeps_its_kind_and_words(trouble: Transient | StorageFull | None) -> None:
    arrived = unpack_trouble(pack_trouble(trouble))
    assert (type(arrived), str(arrived)) == (type(trouble), str(trouble))


def test_other_trouble_is_transient_at_the_other_end() -> None:
    assert type(unpack_trouble(pack_trouble(BrokerUnavailable("redis: away")))) is Transient
