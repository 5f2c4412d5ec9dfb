"""The threads that what a test made leaves behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_thread_left(*names: str) -> Iterator[None]:
    """The block leaves no thread whose name begins with one of these. Threads of other names are not its own:
    servers and pools that tests share start and end some at any time."""
    before = set(threading.enumerate())
    yield
    left = [thread for thread in threading.enumerate() if thread not in before]
    assert [thread.name for thread in left if thread.name.startswith(names)] == []
