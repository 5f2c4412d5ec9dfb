"""The driver of an orchestrator in a Ray cluster: `python -m embedfleet.ray_driver`.

The orchestrator starts it. It reads messages from standard input and writes its own to standard output
(`launchers.ray.messages`). It is a process of its own because Ray ends a driver that has lost the head for a
minute, and takes over signals and logs. It never outlives the orchestrator, and Ray ends its actors with it.
"""

from __future__ import annotations

import asyncio
import queue
import signal
import socket
import threading
from contextlib import suppress
from typing import BinaryIO

import setproctitle

from embedfleet.errors import one_line
from embedfleet.framing import parent_input, parent_output
from embedfleet.launchers.ray.messages import Connect, DriverMessage, Place, Refused, Tell, pack, receive
from embedfleet.lifetime import die_with_parent, end_process
from embedfleet.ray_driver.placing import Placing, as_nodes, watch_nodes
from embedfleet.settings.placement import AUTO, head_of
from embedfleet.waiting import cancel_and_wait

_REFUSED = 1
_KNOCK_SECONDS = 5.0


def main() -> int:
    """Join the cluster and place workers until standard input ends. Return the exit code."""
    writer = _Writer(parent_output())
    code = asyncio.run(_drive(writer))
    writer.close()
    return code


async def _drive(writer: _Writer) -> int:
    orders = await parent_input()
    connect = await receive(orders)
    if not isinstance(connect, Connect):
        return 0  # the orchestrator ended before it sent a message
    setproctitle.setproctitle("embedfleet: Ray driver")
    die_with_parent(connect.parent_pid)
    refused = _join(connect)
    if refused is not None:
        writer.send(refused)
        return _REFUSED
    import ray

    nodes = as_nodes(ray.nodes())
    writer.send(nodes)
    placing = Placing(writer.send)
    watching = asyncio.create_task(watch_nodes(writer.send, nodes), name="nodes")
    telling: set[asyncio.Task[None]] = set()
    try:
        while (message := await receive(orders)) is not None:
            match message:
                case Place():
                    placing.place(message)
                case Tell():
                    # Not awaited: an actor on a node that is lost answers late.
                    task = asyncio.create_task(placing.tell(message))
                    telling.add(task)
                    task.add_done_callback(telling.discard)
    finally:
        await cancel_and_wait(watching, *telling)
        await placing.close()
    ray.shutdown()
    return 0


def _join(connect: Connect) -> Refused | None:
    """Join the cluster. Return why that is not possible."""
    try:
        import ray
        from ray._private.authentication.authentication_utils import is_token_auth_enabled
        from ray.exceptions import AuthenticationError
    except ImportError as exc:
        return Refused(
            f"the package `ray` is missing: install the extra `ray` of embedfleet ({exc})", mistaken=True
        )
    if connect.require_token and not is_token_auth_enabled():
        return Refused(
            "token authentication is off, so everyone who reaches the cluster may run code on it: set "
            "RAY_AUTH_MODE to `token` and give all nodes and this host the same token, or set "
            "`ray.require_token` to false",
            mistaken=True,
        )
    try:
        _knock(connect.address)
        ray.init(
            address=connect.address,
            namespace=connect.namespace,
            log_to_driver=False,
            configure_logging=False,
            logging_level="ERROR",
        )
    except AuthenticationError as exc:
        return Refused(f"it refuses the token of this host: {one_line(exc)}", mistaken=True)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as exc:
        return Refused(f"it cannot be joined: {one_line(exc)}", mistaken=False)
    # Ray takes over SIGTERM. A supervisor that stops the orchestrator may send it to all processes, but the
    # workers must drain first. The end of standard input says when they have.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, signal.SIG_IGN)
    return None


def _knock(address: str) -> None:
    """Raise OSError at once if nothing listens there: Ray would try for more than a minute."""
    if address != AUTO:
        socket.create_connection(head_of(address), timeout=_KNOCK_SECONDS).close()


class _Writer:
    """Writes messages on a thread: an orchestrator that is slow to read does not hold up the event loop."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._messages: queue.SimpleQueue[DriverMessage | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="messages", daemon=True)
        self._thread.start()

    def send(self, message: DriverMessage) -> None:
        self._messages.put(message)

    def close(self) -> None:
        """Return when all messages are written."""
        self._messages.put(None)
        self._thread.join()

    def _write(self) -> None:
        with suppress(BrokenPipeError):  # the orchestrator has ended, which standard input shows too
            while (message := self._messages.get()) is not None:
                self._stream.write(pack(message))


if __name__ == "__main__":
    end_process(main())
