"""Turns Ctrl-C and SIGTERM into an event: the first asks for a clean stop, the second stops at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_on_signal(stop: asyncio.Event) -> Iterator[None]:
    """Set `stop` at the first signal; cancel the current task at the second. Needs a running event loop."""
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
        except NotImplementedError:  # Windows: its event loops support no signal handlers
            signal.signal(number, lambda *_: loop.call_soon_threadsafe(interrupt))
    try:
        yield
    finally:
        for number, handler in previous.items():
            remove_handler = getattr(loop, "remove_signal_handler", None)
            if remove_handler is not None:
                remove_handler(number)
            signal.signal(number, handler)
