"""The actor of a worker: a Ray process that consumes tasks until it is told to end.

Ray carries its order in, and its reports out. Tasks, texts and vectors go between this process and the
broker, SQL and the vector store, as for every worker. The order holds secrets, so it comes by a call of the
actor, which goes from the driver to this process. The arguments of a constructor would lie in the head.

An actor does not outlive its orchestrator: Ray ends it with its driver, and if it hears nothing for
`_SILENCE_SECONDS` it drains and ends by itself, whatever Ray believes.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from time import monotonic
from typing import Any

from loguru import logger

from embedfleet import __version__, log
from embedfleet.errors import EmbedfleetError
from embedfleet.launchers.channel import Command, Failure, Order, Report, pack_body, unpack_body
from embedfleet.running_worker import run_worker
from embedfleet.settings import Settings

# A driver asks for messages all the time. It is gone if it does not for this long.
_SILENCE_SECONDS = 30.0
# How long a question for messages waits for one. Far below the above.
_ANSWER_SECONDS = 5.0
# An actor whose driver is gone hands back its tasks within this time of the abort.
_ABORT_SECONDS = 5.0

# By its defaults Ray passes arguments below 100 KiB in the call itself, up to 10 MiB together.
_PART_BYTES = 64 * 2**10
# What hides the GPUs of NVIDIA and of AMD from a process.
_VISIBLE = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")

ENDED_WELL = b"ended"
"""The last message of an actor whose worker has drained, or was aborted."""
FAILED = b"failed"
"""The last message of an actor whose worker could not go on. A `Failure` comes before it."""


class Consumer:
    """Runs one worker on a thread and an event loop of its own. Ray calls the methods, on several threads."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._asked_at = monotonic()
        self._commands = _Commands()

    def start(self, version: str, *parts: bytes) -> None:
        """Start the worker of this order, which comes in parts (see `in_parts`).

        `version` is the release of embedfleet of the driver.
        """
        if version != __version__:
            self._fail(
                f"the node has embedfleet {__version__}, the orchestrator {version}: install the same "
                "release on all nodes"
            )
            return
        order = unpack_body(b"".join(parts))
        assert isinstance(order, Order)
        self._asked_at = monotonic()
        settings = Settings.from_json(order.settings)
        _hide_devices_of_others()
        threading.Thread(target=self._work, args=(order, settings), name=order.name, daemon=True).start()
        threading.Thread(
            target=self._end_with_the_driver,
            args=(settings.orchestrator.drain_seconds,),
            name="driver watch",
            daemon=True,
        ).start()

    def place(self) -> str:
        """Return the node and the number of this process, for logs."""
        import ray

        node = ray.get_runtime_context().get_node_id()
        return f"{node_name(ray.util.get_node_ip_address(), node)}, pid {os.getpid()}"

    def next_messages(self) -> list[bytes]:
        """Return the messages since the last call, at least one; or none, after some seconds without any."""
        self._asked_at = monotonic()
        messages: list[bytes] = []
        try:
            messages.append(self._messages.get(timeout=_ANSWER_SECONDS))
            while True:
                messages.append(self._messages.get_nowait())
        except queue.Empty:
            return messages

    def obey(self, command: str) -> None:
        """Follow a `channel.Command`."""
        self._commands.give(Command(command))

    def _work(self, order: Order, settings: Settings) -> None:
        log.configure(level=settings.monitoring.log_level, as_json=settings.monitoring.log_json)
        try:
            asyncio.run(self._run(order, settings))
        except EmbedfleetError as exc:
            self._fail(str(exc))
        except Exception as exc:  # noqa: BLE001 - reported, and logged
            logger.opt(exception=exc).error("worker failed")
            self._fail(repr(exc))
        else:
            self._messages.put(ENDED_WELL)

    async def _run(self, order: Order, settings: Settings) -> None:
        stop = asyncio.Event()
        work = asyncio.create_task(run_worker(order, settings, self._report, stop), name=order.name)
        self._commands.follow(asyncio.get_running_loop(), stop, work)
        await asyncio.wait([work])
        if not work.cancelled():
            work.result()

    def _report(self, report: Report) -> None:
        self._messages.put(pack_body(report))

    def _fail(self, reason: str) -> None:
        self._messages.put(pack_body(Failure(reason)))
        self._messages.put(FAILED)

    def _end_with_the_driver(self, drain_seconds: float) -> None:
        """End this process when the driver has not asked for so long that it must be gone."""
        never = threading.Event()
        while (silent := monotonic() - self._asked_at) < _SILENCE_SECONDS:
            never.wait(_SILENCE_SECONDS - silent)
        logger.warning("the orchestrator has been silent for {:.0f} s: this worker drains and ends", silent)
        self._commands.give(Command.DRAIN)
        self._commands.ended.wait(drain_seconds)
        self._commands.give(Command.ABORT)
        self._commands.ended.wait(_ABORT_SECONDS)
        os._exit(1)


def in_parts(packed_order: bytes) -> list[bytes]:
    """Return the order as arguments of `start`, each so small that Ray passes it on in the call itself.

    It would lay a larger one, with the secrets, into the object store of the node.
    """
    return [packed_order[at : at + _PART_BYTES] for at in range(0, len(packed_order), _PART_BYTES)]


def node_name(address: str, node_id: str) -> str:
    """Return how logs and errors name a node: one machine may have several."""
    return f"{address} ({node_id[:8]})"


class _Commands:
    """Hands commands from any thread to the event loop of the worker, also those given before it ran."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._given: list[Command] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event
        self._work: asyncio.Task[Any]

    def give(self, command: Command) -> None:
        with self._lock:
            self._given.append(command)
            if self._loop is not None and not self.ended.is_set():
                self._loop.call_soon_threadsafe(self._obey, command)

    def follow(self, loop: asyncio.AbstractEventLoop, stop: asyncio.Event, work: asyncio.Task[Any]) -> None:
        """Obey on this loop from now on, and what was given before."""
        with self._lock:
            self._loop, self._stop, self._work = loop, stop, work
            for command in self._given:
                self._obey(command)
        work.add_done_callback(self._note_end)

    def _note_end(self, _work: asyncio.Task[Any]) -> None:
        # With the lock: `give` must not call into a loop that closes after this.
        with self._lock:
            self.ended.set()

    def _obey(self, command: Command) -> None:
        self._stop.set()
        if command is Command.ABORT:
            self._work.cancel()


def _hide_devices_of_others() -> None:
    """Show this process no GPU if Ray gave it none. A model would take one that Ray gives to others."""
    import ray

    if not ray.get_runtime_context().get_accelerator_ids().get("GPU"):
        os.environ.update(dict.fromkeys(_VISIBLE, ""))
