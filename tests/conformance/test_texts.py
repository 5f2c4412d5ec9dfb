"""The texts and chunks of many documents, read in one look: each gets its own, in order."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator

import pytest
from sqlalchemy import Connection

from embedfleet.records import chunks, jobs, segments
from embedfleet.records.chunks import ChunkRow
from embedfleet.records.segments import Segment
from embedfleet.sql.database import Database
from support.fan_in import new_job
from support.statements import statements

TEXTS = {"a": "häßlich \U0001f600 日本 " * 9, "b": "plain " * 31, "c": "x"}


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, synchronous="normal")
    await database.open()
    yield database
    await database.close()


def write(conn: Connection, sizes: random.Random) -> dict[str, int]:
    """The texts in segments of many sizes. The generation id of each name."""
    generations = {}
    for name, text in TEXTS.items():
        job = jobs.get(conn, new_job(conn, name))
        assert job is not None
        generations[name] = job.generation_id
        segments.drop(conn, [generations[name]])
        start = 0
        pieces: list[Segment] = []
        while start < len(text):
            end = min(len(text), start + sizes.randint(1, 12))
            pieces.append(Segment.of(len(pieces), start, text[start:end]))
            start = end
        segments.add(conn, {generations[name]: pieces})
    return generations


def chunk_id(document: int, chunk: int) -> str:
    return f"{document:016x}{chunk:016x}"


async def test_each_span_is_its_part_of_the_text_wherever_the_segments_end(database: Database) -> None:
    rng = random.Random(5)
    generations = await database.write(lambda conn: write(conn, rng))
    wanted: list[tuple[str, list[tuple[int, int]]]] = []
    for _ in range(60):
        name = rng.choice(list(TEXTS))
        size = len(TEXTS[name])
        starts = [rng.randrange(size) for _ in range(rng.randint(0, 4))]
        wanted.append((name, [(start, rng.randint(start, size)) for start in starts]))
    asked = [(generations[name], spans) for name, spans in wanted]
    with statements() as executed:
        found = await database.read(lambda conn: segments.texts_of(conn, asked))
    assert found == [[TEXTS[name][start:end] for start, end in spans] for name, spans in wanted]
    assert len(executed) == 1


async def test_a_text_that_is_gone_is_none_and_the_others_are_there(database: Database) -> None:
    generations = await database.write(lambda conn: write(conn, random.Random(6)))
    await database.write(lambda conn: segments.drop(conn, [generations["a"]]))
    asked = [(generations["a"], [(0, 4)]), (generations["b"], [(0, 5)]), (generations["b"], [(180, 999)])]
    assert await database.read(lambda conn: segments.texts_of(conn, asked)) == [None, ["plain"], None]


async def test_each_span_of_chunks_is_its_own_in_order(database: Database) -> None:
    def make(conn: Connection) -> dict[str, int]:
        generations = write(conn, random.Random(7))
        made = [
            (
                name,
                made_id,
                [ChunkRow(n, chunk_id(number, n), n, n + 1, 1, "") for n in (4, 2, 0, 1, 3)],
            )
            for number, (name, made_id) in enumerate(generations.items())
        ]
        chunks.add(conn, made)
        return generations

    generations = await database.write(make)
    spans = [(generations["b"], 3, 9), (generations["a"], 0, 2), (generations["b"], 7, 1), (10**9, 0, 5)]
    found = await database.read(lambda conn: chunks.between(conn, spans))
    assert [[row.chunk_index for row in rows] for rows in found] == [[3, 4], [0, 1], [], []]
    assert found[0][0].chunk_id == chunk_id(1, 3)
