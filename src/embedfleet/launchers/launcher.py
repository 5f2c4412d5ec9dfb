"""The launcher port: it starts workers and gives the orchestrator a handle to each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from embedfleet.errors import EmbedfleetError
from embedfleet.queue_schemas import Stage


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker to start. `name` is unique among the live workers of the host, e.g. `embedding-3`.

    `device`: the accelerator it gets (None: CPU). `threads`: the CPU threads its model may use (0: as the
    settings say).
    """

    stage: Stage
    name: str
    device: str | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended. It has `crashed` if it was not told to end and did not end in good order."""

    crashed: bool
    reason: str


class WorkerHandle(Protocol):
    """A launched worker. All methods belong to one event loop."""

    @property
    def spec(self) -> WorkerSpec: ...

    @property
    def ready(self) -> bool:
        """Whether it has opened what it needs, so that it claims tasks."""
        ...

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why it puts work off now; None if all is well."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Resident size of its process as last reported; 0 if unknown or if workers share the process."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models loaded in its process, as last reported."""
        ...

    def drain(self) -> None:
        """Tell it to claim no more, finish the tasks in hand and end. May be called again."""
        ...

    def abort(self) -> None:
        """Tell it to hand back the tasks in hand and end at once. May be called after `drain`, and again."""
        ...

    async def wait(self) -> WorkerExit:
        """Return when it has ended, for any reason."""
        ...


class Launcher(Protocol):
    """Starts workers. For a worker that cannot run it raises nothing: the handle says that it crashed."""

    async def launch(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker; it claims as soon as it is ready."""
        ...
