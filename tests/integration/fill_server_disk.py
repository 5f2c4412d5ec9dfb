"""Run by test_chroma_server.py on a small file system of its own: fill the disk of a server, see writes put
off, make room, start the server again as the error says, and repeat what failed."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from embedfleet.errors import StorageFull, VectorStoreUnavailable
from embedfleet.vectors.chroma.server import ChromaServerStore
from integration.fill_disk import BOOKS, batch
from support.chroma_server import ChromaServer


async def main(small_disk: Path) -> None:
    assert shutil.disk_usage(small_disk).total < 2**27, "this fills the disk: give it a small one"
    with ChromaServer(small_disk / "data") as server:
        store = await ChromaServerStore.open(server.url, timeout_seconds=30)
        await store.ensure_collection(BOOKS)
        ballast = small_disk / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(small_disk).free - 300_000))

        number = 0
        refused: list[Exception] = []
        while not any(isinstance(exc, StorageFull) for exc in refused) and len(refused) < 10:
            try:
                await store.upsert(BOOKS, batch(number))
                number += 1
            except (StorageFull, VectorStoreUnavailable) as exc:  # it does not always say why
                refused.append(exc)
        print("refused")

        ballast.unlink()
        server.kill()  # with a transaction left open it may not end by itself
        server.start()
        for again in range(number + 3):
            await store.upsert(BOOKS, batch(again))
        assert await store.count(BOOKS) == 50 * (number + 3)
        await store.close()
    print("stored")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
