"""Runs checks one after the other, each with a limit of time, for `embedfleet doctor`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from embedfleet.cli.output import explain
from embedfleet.errors import EmbedfleetError, one_line

if TYPE_CHECKING:
    from embedfleet.settings import Settings

T = TypeVar("T")

SERVICE_SECONDS = 10.0
"""The limit of a check that asks a service. One that works answers within a second; a connection to one that
is gone fails within 5 (`connect_timeout_seconds`)."""

WORK_SECONDS = 120.0
"""The limit of a check that computes: to import and load a model from a cold disk takes up to a minute."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The result of a check that found nothing broken, but something that a person should know."""

    detail: str


@dataclass(frozen=True, slots=True)
class Check:
    """One question. `examine` returns what it found, and raises EmbedfleetError for what is wrong.

    If one of the checks in `needs` has failed, this one is not made. `place` returns where the service is
    that `examine` asks, for the message about its silence.
    """

    name: str
    examine: Callable[[Settings], str | Doubt]
    needs: Collection[str] = ()
    limit_seconds: float = SERVICE_SECONDS
    place: Callable[[Settings], str] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `detail`: what was found; if not `ok`, what is wrong and what to do.

    `warning`: it is ok, but a person should know it.
    """

    check: str
    ok: bool
    detail: str
    warning: bool = False


def examine(checks: Iterable[Check], settings: Settings) -> Iterator[Finding]:
    """Make the checks in their order, and yield each finding as soon as it is known.

    A check that takes longer than its limit is given up, and goes on in a thread of its own. So the caller
    must end the process in a way that waits for no thread.
    """
    failed: list[str] = []
    for check in checks:
        missing = [name for name in check.needs if name in failed]
        if missing:
            finding = Finding(check.name, False, f"not looked at, as this failed: {', '.join(missing)}")
        else:
            finding = _finding(check, settings)
        if not finding.ok:
            failed.append(check.name)
        yield finding


def _finding(check: Check, settings: Settings) -> Finding:
    try:
        found = _within(check.limit_seconds, lambda: check.examine(settings))
    except TimeoutError:
        return Finding(check.name, False, _silence(check, settings))
    except EmbedfleetError as exc:
        return Finding(check.name, False, explain(exc))
    except Exception as exc:  # noqa: BLE001 - a defect of one must not hide the other findings
        return Finding(check.name, False, f"internal error: {one_line(repr(exc))}; report it")
    if isinstance(found, Doubt):
        return Finding(check.name, True, found.detail, warning=True)
    return Finding(check.name, True, found)


def _silence(check: Check, settings: Settings) -> str:
    if check.place is None:
        return f"no result after {check.limit_seconds:.0f} s: see whether the machine is overloaded"
    return (
        f"{check.place(settings)} has not answered within {check.limit_seconds:.0f} s: see whether it hangs, "
        "and whether the network loses packets on the way"
    )


def _within(seconds: float, call: Callable[[], T]) -> T:
    """Return what `call` returns. Raises TimeoutError after `seconds`."""
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(call())
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            result.set_exception(exc)

    # A daemon, so that a call that never ends does not keep the process alive.
    Thread(target=run, name="check", daemon=True).start()
    return result.result(seconds)
