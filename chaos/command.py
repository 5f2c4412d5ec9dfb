"""The `embedfleet` command, whose orchestrators start the worker processes of `chaos.worker`."""

from __future__ import annotations

import sys

from embedfleet import cli
from embedfleet.bootstrap import owner

if __name__ == "__main__":
    owner.WORKER_COMMAND = (sys.executable, "-m", "chaos.worker")
    cli.main()
