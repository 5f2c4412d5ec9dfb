"""Run by test_chroma.py on a small file system of its own: fill it, see the write refused, make
room, and write again through the same store."""

from __future__ import annotations

import asyncio
import shutil
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from embedfleet.errors import StorageFull
from embedfleet.vectors.chroma.embedded import ChromaVectorStore
from embedfleet.vectors.port import TenantSpace, VectorRows

BOOKS = TenantSpace("acme", "s", 384)
FILMS = TenantSpace("acme", "films", 384)


def batch(number: int) -> VectorRows:
    vectors = np.random.default_rng(number).standard_normal((50, 384), dtype=np.float32)
    return VectorRows(
        [f"{number}-{i}" for i in range(50)], vectors, [{"n": 1}] * 50, ["some text " * 20] * 50
    )


async def main(small_disk: Path) -> None:
    assert shutil.disk_usage(small_disk).total < 2**27, "this fills the disk: give it a small one"
    store = await ChromaVectorStore.open(small_disk / "chroma")
    await store.ensure_collection(BOOKS)
    await store.upsert(BOOKS, batch(0))

    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 300_000))
    number = 0
    with suppress(StorageFull):
        while True:
            number += 1
            await store.upsert(BOOKS, batch(number))
    try:  # this is what leaves a transaction open in Chroma
        await store.ensure_collection(FILMS)
    except StorageFull:
        print("refused")

    ballast.unlink()
    for _ in range(3):  # through the same Chroma client, the second of these never returns
        await store.upsert(BOOKS, batch(number))
    assert await store.count(BOOKS) == 50 * (number + 1)
    await store.close()
    print("stored")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
