"""Real text of any size, the same on every machine with this Python: the library's own sources."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedfleet.chunking.chunker import Chunk
from embedfleet.inference.backend import TokenBatch
from embedfleet.queue_schemas import ChunkingConfig, JobRequest, UserTier


def library_sources(*, tools: bool = False) -> list[tuple[str, str]]:
    """(name, text) of the standard library's modules, sorted by name; tests and site-packages left out.

    `tools`: with IDLE and lib2to3.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    skipped = {"test", "tests", "site-packages", "__pycache__"} | (set() if tools else {"idlelib", "lib2to3"})
    paths = (path for path in root.rglob("*.py") if not skipped & set(path.relative_to(root).parts))
    return [(str(path.relative_to(root)), path.read_text(errors="ignore")) for path in sorted(paths)]


def documents(total_chars: int) -> Iterator[tuple[str, str]]:
    """(name, text) of `total_chars` characters in all: the sources again and again, no two alike."""
    left = total_chars
    sources = library_sources()
    for lap in count():
        for name, text in sources:
            body = f"lap {lap} of {name}\n\n{text}"[:left]
            left -= len(body)
            if body.strip():
                yield f"{lap}/{name}", body
            if not left:
                return


def slices(count: int, chars: int) -> Iterator[tuple[str, str]]:
    """(name, text) of `count` documents of `chars` characters: consecutive pieces of the sources, each with a
    number of its own in its first line, so that no two are alike."""
    number = 0
    for name, text in documents(10**12):
        at = 0
        while at < len(text):
            if number == count:
                return
            heading = f"{number}: {name}\n\n"
            end = at + chars - len(heading)
            if len(text) < end:
                break  # what is left of this source is too short
            yield f"{number:06}", heading + text[at:end]
            at, number = end, number + 1


def job_requests(texts: Iterable[tuple[str, str]], chunking: ChunkingConfig) -> Iterator[JobRequest]:
    """One for each (name, text), of a tenant that no quota holds up."""
    for name, text in texts:
        yield JobRequest(
            media_id=name,
            user_id="bench",
            user_tier=UserTier.ENTERPRISE,
            content=text,
            source=name,
            chunking_config=chunking,
        )


def as_batch(chunks: list[Chunk]) -> TokenBatch:
    return TokenBatch(
        np.concatenate([chunk.token_ids for chunk in chunks]),
        np.array([len(chunk.token_ids) for chunk in chunks], dtype=np.int64),
    )


def calls(lengths: NDArray[np.int64], call_tokens: int) -> list[NDArray[np.int64]]:
    """Positions of consecutive texts, about so many tokens a call."""
    number = (np.cumsum(lengths) - 1) // call_tokens
    return [np.flatnonzero(number == call) for call in range(int(number[-1]) + 1)]
