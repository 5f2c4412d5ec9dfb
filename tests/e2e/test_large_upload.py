"""An upload of a gigabyte costs the server's process no memory to speak of: `pytest -m slow -s` shows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from e2e.test_serve_command import serve
from support.command import Command
from support.hangs import HANG_SECONDS

_MEBIBYTE = 1 << 20
_BOUND_MEBIBYTES = 64


def pieces(mebibytes: int) -> Iterator[bytes]:
    piece = b"Words in a line of a large file.\n" * (_MEBIBYTE // 33 + 1)
    for _ in range(mebibytes):
        yield piece[:_MEBIBYTE]


def memory_mebibytes(pid: int, name: str) -> float:
    """`VmRSS`: what the process holds now; `VmHWM`: the most that it has held."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(name)


@pytest.mark.slow
@pytest.mark.parametrize(("mebibytes", "status"), [(1024, 422), (1200, 413)], ids=["taken", "over the limit"])
def test_a_gigabyte_costs_little_memory(command: Command, mebibytes: int, status: int) -> None:
    """The file has more text than one may have, so it is taken to the disk, read, and refused."""
    limit = {"EMBEDFLEET_PARSING__MAX_FILE_BYTES": str(1100 * _MEBIBYTE)}
    with serve(command, env=limit) as (process, address), httpx.Client(timeout=HANG_SECONDS) as client:
        url = f"{address}/v1/jobs:upload?media_id=1&name=a.txt"
        client.post(url, content=pieces(2))
        before = memory_mebibytes(process.pid, "VmRSS")
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")  # the most is counted from here
        answer = client.post(url, content=pieces(mebibytes))
        most = memory_mebibytes(process.pid, "VmHWM")
    print(f"{mebibytes} MiB: {most - before:.1f} MiB more than {before:.0f} MiB; answer {answer.status_code}")
    assert answer.status_code == status, answer.text
    assert most - before <= _BOUND_MEBIBYTES
