"""What a process and its children use: processor time and memory."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

SAMPLE_SECONDS = 0.05


def cpu_seconds_of_children() -> float:
    """Of this process's children and theirs until now, whether they run or have ended and were waited for."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            seconds += sum(child.cpu_times()[:4])  # its own, and of its children that have ended
        except psutil.NoSuchProcess:
            continue
    return seconds


@dataclass(slots=True)
class PeakMemory:
    """Highest resident size, in MB: of a process, and of it with its children."""

    process_mb: float = 0.0
    tree_mb: float = 0.0

    def look(self, process: psutil.Process) -> None:
        own = process.memory_info().rss
        tree = own + sum(child.memory_info().rss for child in process.children(recursive=True))
        self.process_mb = max(self.process_mb, own / 1e6)
        self.tree_mb = max(self.tree_mb, tree / 1e6)


@contextmanager
def watched_memory(process: psutil.Process) -> Iterator[PeakMemory]:
    """Look at the process every few milliseconds while the block runs."""
    peak = PeakMemory()
    done = threading.Event()

    def watch() -> None:
        while not done.wait(SAMPLE_SECONDS):
            try:
                peak.look(process)
            except psutil.NoSuchProcess:  # it, or a child of it, has just ended
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
