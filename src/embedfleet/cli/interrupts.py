"""Ctrl-C and SIGTERM as an event: the first asks for a clean stop, the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal, cancel the current task at the second. Within a running loop."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()

    def interrupt() -> None:
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        try:
            loop.add_signal_handler(number, interrupt)
        except NotImplementedError:  # Windows: loops take no signal handlers there
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(interrupt))
    try:
        yield
    finally:
        for number, handler in previous.items():
            with_loop = getattr(loop, "remove_signal_handler", None)
            if with_loop is not None:
                with_loop(number)
            signal.signal(number, handler)
