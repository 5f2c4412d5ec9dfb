"""Carries out switches to another model in the process of a command, when no orchestrator runs."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from embedfleet.cli.hopeless_wait import HopelessWait
from embedfleet.cli.interrupts import stop_on_signal
from embedfleet.cli.output import DONE, INTERRUPTED, NOTHING_DONE, PARTLY_DONE, show_progress, warn
from embedfleet.cli.systems.workers import work_until
from embedfleet.sql.states import SwitchPhase
from embedfleet.waiting import wait_briefly
from embedfleet.wording import number_of, readable_seconds

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Switches, System
    from embedfleet.model_switching.schemas import SkippedTenant, SwitchInfo

# A look counts the documents of each tenant at work, which takes milliseconds for thousands. Of many tenants
# it takes longer, and then there is one less often, so that looks take a tenth of the time at most.
_LOOK_SECONDS = 0.5
_REST_PER_SECOND = 9.0
_SECONDS_BETWEEN_LINES = 10.0
_AT_WORK = (SwitchPhase.FILLING, SwitchPhase.CHECKING, SwitchPhase.RETIRING)


@dataclass(frozen=True, slots=True)
class CarriedOut:
    """How switches stand after an order. `here`: this process has worked on them. `interrupted`: a signal has
    stopped that."""

    switches: tuple[SwitchInfo, ...]
    here: bool = False
    interrupted: bool = False


async def carry_out(system: System, begun: Sequence[SwitchInfo], *, quiet: bool) -> CarriedOut:
    """Work until the new models answer, are refused, or their space is emptied, if no other process would."""
    if not any(map(_is_at_work, begun)):
        return CarriedOut(tuple(begun))
    if not system.stands_still():
        warn("the orchestrators carry it out: `embedfleet models switches` shows how far it is")
        return CarriedOut(tuple(begun))
    stop = asyncio.Event()
    with stop_on_signal(stop):
        run = _Run(system, await system.switches(), [one.switch_id for one in begun], stop, quiet=quiet)
        return CarriedOut(await run.run(), here=True, interrupted=run.interrupted)


def exit_code(done: CarriedOut, skipped: Sequence[SkippedTenant]) -> int:
    """Return the exit code: what was refused here, and tenants that are left out, are not as was ordered."""
    if done.interrupted:
        warn("interrupted: it goes on when an orchestrator runs, or when the command is given again")
        return INTERRUPTED
    refused = sum(one.phase is SwitchPhase.REFUSED for one in done.switches) if done.here else 0
    if not refused and not skipped:
        return DONE
    return PARTLY_DONE if refused < len(done.switches) else NOTHING_DONE


class _Run:
    """Workers of this process, and looks at the switches until none is at work."""

    def __init__(
        self, system: System, door: Switches, ids: Sequence[int], stop: asyncio.Event, *, quiet: bool
    ) -> None:
        self._door = door
        self._ids = ids
        self._stop = stop
        self._progress = _Progress(quiet=quiet)
        self._workers = system.workers(purpose="embedfleet models", announce=warn)
        self.interrupted = False

    async def run(self) -> tuple[SwitchInfo, ...]:
        await work_until(self._workers, self._follow)
        return await self._look()

    async def _follow(self) -> None:
        hopeless = HopelessWait()
        found: tuple[SwitchInfo, ...] = ()
        while not self._stop.is_set():
            begun = monotonic()
            found = await self._look(found)
            took = monotonic() - begun
            at_work = [one for one in found if _is_at_work(one)]
            self._progress.show(found, last=not at_work)
            if not at_work:
                return
            error = hopeless.error(self._workers.trouble, monotonic())
            if error is not None:
                raise error
            await wait_briefly(self._stop, max(_LOOK_SECONDS, _REST_PER_SECOND * took))
        self.interrupted = True

    async def _look(self, before: Sequence[SwitchInfo] = ()) -> tuple[SwitchInfo, ...]:
        """Return the switches as they are now. Those that were at rest `before` are not looked at again."""
        done = {one.switch_id: one for one in before if not _is_at_work(one)}
        return tuple([done.get(switch_id) or await self._door.show(switch_id) for switch_id in self._ids])


def _is_at_work(switch: SwitchInfo) -> bool:
    return switch.phase in _AT_WORK and not (switch.paused and switch.phase is not SwitchPhase.RETIRING)


class _Progress:
    """Writes the progress to stderr: over one line on a terminal, elsewhere a line every ten seconds."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._on_terminal = sys.stderr.isatty()
        self._shown_at: float | None = None

    def show(self, found: Sequence[SwitchInfo], *, last: bool) -> None:
        if self._quiet:
            return
        words = progress_words(found)
        if self._on_terminal:
            show_progress(f"{words:<78}", last=last)
            return
        now = monotonic()
        if self._shown_at is None or now - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._shown_at = now
            warn(words)


def progress_words(found: Sequence[SwitchInfo]) -> str:
    """Return how far the switches are, in a line."""
    progresses = [one.progress for one in found if one.progress is not None]
    there, documents = (
        sum(one.there for one in progresses),
        sum(one.documents for one in progresses),
    )
    phases = {one.phase for one in found if _is_at_work(one)}
    names = ", ".join(phase for phase in _AT_WORK if phase in phases) or "done"
    left = [one.seconds_left for one in progresses if one.seconds_left]
    rest = f", about {readable_seconds(sum(left))} more" if left else ""
    tenants = "" if len(found) == 1 else f"{number_of(len(found), 'tenant')}: "
    return f"{tenants}{names}, {there:,} of {number_of(documents, 'document')} in both spaces{rest}"
