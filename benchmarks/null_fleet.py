"""`embedfleet` whose worker processes store vectors nowhere: `python -m null_fleet ARGUMENTS`."""

from __future__ import annotations

import sys

from embedfleet import cli, worker_process
from embedfleet.bootstrap import adapters, owner
from embedfleet.settings import Settings
from embedfleet.vectors.null import NullVectorStore
from embedfleet.vectors.port import VectorStore


async def _open_store(settings: Settings) -> VectorStore:
    return NullVectorStore()


if __name__ == "__main__":
    adapters.open_store = _open_store
    if len(sys.argv) == 1:  # as orchestrators start them
        sys.exit(worker_process.main())
    owner.WORKER_COMMAND = (sys.executable, "-m", "null_fleet")
    cli.main()
