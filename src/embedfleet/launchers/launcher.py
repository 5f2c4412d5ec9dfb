"""The launcher port: it starts workers and gives the orchestrator a handle to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from embedfleet.errors import EmbedfleetError
from embedfleet.queue_schemas import Stage


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker to start. `name` is unique among the live workers of the host, e.g. `embedding-3`.

    `device` is the accelerator of the worker; None means the CPU. `threads` is the number of CPU threads that
    its model may use; 0 means the number in the settings.
    """

    stage: Stage
    name: str
    device: str | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """The end of a worker. It has `crashed` if it was not told to end and did not end in good order."""

    crashed: bool
    reason: str


class WorkerHandle(Protocol):
    """A launched worker. Call all methods on one event loop."""

    @property
    def spec(self) -> WorkerSpec:
        """The specification that the worker was launched with."""
        ...

    @property
    def placed(self) -> bool:
        """Whether the worker has a process, or runs in this one. One that waits for a node has none."""
        ...

    @property
    def ready(self) -> bool:
        """Whether the worker has opened everything it needs and claims tasks."""
        ...

    @property
    def ready_at(self) -> float | None:
        """When the worker was ready first, by `time.monotonic`; None if it has not been yet."""
        ...

    @property
    def reports(self) -> int | None:
        """How often the worker has reported; None if it runs in this process and reports nothing."""
        ...

    @property
    def trouble(self) -> EmbedfleetError | None:
        """The failure because of which the worker puts off work now; None if it does not."""
        ...

    @property
    def memory_bytes(self) -> int:
        """The last reported resident size of its process; 0 if unknown or if workers share the process."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """The names of the models loaded in its process, as last reported."""
        ...

    def drain(self) -> None:
        """Tell the worker to claim no more, finish the tasks in hand and end. May be called again."""
        ...

    def abort(self) -> None:
        """Tell the worker to hand back the tasks in hand and end at once.

        May be called again, and after `drain`.
        """
        ...

    async def wait(self) -> WorkerExit:
        """Return when the worker has ended for any reason."""
        ...


class Launcher(Protocol):
    """Starts workers. If a worker cannot run, the handle reports a crash."""

    async def launch(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker, which claims tasks as soon as it is ready.

        An exception counts as a crash of the worker, such as an OSError when the system has no process left.
        """
        ...
