"""The launcher port: what starts a worker and lets the orchestrator hold on to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from embedfleet.errors import EmbedfleetError
from embedfleet.queue_schemas import Stage


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """A worker to be. `name` is unique among those alive on the host, e.g. `embedding-3`.

    `device` is the accelerator dealt to it (None: CPU); `threads` are the CPU threads its model may use
    (0: as the settings say).
    """

    stage: Stage
    name: str
    device: str | None = None
    threads: int = 0


@dataclass(frozen=True, slots=True)
class WorkerExit:
    """How a worker ended. One that was not asked to end has `crashed`, unless it ended in good order."""

    crashed: bool
    reason: str


class WorkerHandle(Protocol):
    """A worker that was launched. All of it belongs to one event loop."""

    @property
    def spec(self) -> WorkerSpec: ...

    @property
    def ready(self) -> bool:
        """It has opened what it needs and claims."""
        ...

    @property
    def trouble(self) -> EmbedfleetError | None:
        """Why it puts work off at the moment; None if all is well."""
        ...

    @property
    def memory_bytes(self) -> int:
        """Resident size of its process as last seen; 0 while unknown or shared with others."""
        ...

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models loaded in its process, as last seen."""
        ...

    def drain(self) -> None:
        """Claim no more, finish what is in hand, end. May be called again."""
        ...

    def abort(self) -> None:
        """End at once, handing back what is in hand. May be called after `drain`, and again."""
        ...

    async def wait(self) -> WorkerExit:
        """Return when it has ended, whatever ended it."""
        ...


class Launcher(Protocol):
    """Starts workers. Raises nothing for a worker that cannot run: its handle ends as crashed."""

    async def launch(self, spec: WorkerSpec) -> WorkerHandle:
        """Start a worker; it claims as soon as it is ready."""
        ...
