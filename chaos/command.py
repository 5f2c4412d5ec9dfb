"""The `embedfleet` command, whose orchestrators start the worker processes of `chaos.worker`."""

from __future__ import annotations

import sys

from embedfleet import bootstrap, cli

if __name__ == "__main__":
    bootstrap._WORKER_COMMAND = (sys.executable, "-m", "chaos.worker")
    cli.main()
