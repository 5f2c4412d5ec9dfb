"""No file takes the parent's memory, time or life; after any mishap the next file works."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from embedfleet.errors import ParseError
from embedfleet.parsing.draft import BLOCK_BYTES
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.parsing.source_hash import source_hash_of
from embedfleet.settings import ParsingSettings
from integration.parsing_corpus import docx, epub, pdf
from support.hangs import HANG_SECONDS
from support.import_path import import_path

# The parser takes minutes: time goes with the square of the depth.
SLOW_PAGE = b"<b>" * 300_000 + b"text"
Sandbox = Callable[..., Awaitable[ParserSandbox]]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this wall")


@pytest.fixture
async def make_sandbox() -> AsyncIterator[Sandbox]:
    """Makes sandboxes with settings of the test's choice; afterwards none of their processes is left."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, workers: int = 1, **settings: Any) -> ParserSandbox:
            return await stack.enter_async_context(
                ParserSandbox(ParsingSettings(**settings), workers=workers)
            )

        yield make
    assert children() == []


_others: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def others() -> None:
    """Children that were there before the test, such as servers that tests share."""
    _others.clear()
    _others.update(psutil.Process().children())


def children() -> list[psutil.Process]:
    """The parser processes of this test."""
    return [child for child in psutil.Process().children() if child not in _others and is_parser(child)]


def is_parser(process: psutil.Process) -> bool:
    try:
        return any("embedfleet.parsing" in argument for argument in process.cmdline())
    except psutil.ZombieProcess:
        return True  # it was ours, and is not waited for yet
    except psutil.NoSuchProcess:
        return False


def the_child() -> psutil.Process:
    (child,) = children()
    return child


async def a_busy_child(parsing: asyncio.Task[Any]) -> psutil.Process:
    """The parser process, as soon as it has used more CPU time than its start takes."""
    while not parsing.done():
        if children() and the_child().cpu_times().user > 0.5:
            return the_child()
        await asyncio.sleep(0)
    raise AssertionError(f"nothing is being parsed: {parsing}")


async def works_at_last(sandbox: ParserSandbox) -> bool:
    """For a sandbox whose time is so short that a slow machine may not start its process within it."""
    while True:
        try:
            return await works(sandbox)
        except ParseError:
            continue


async def works(sandbox: ParserSandbox) -> bool:
    return (await sandbox.parse_bytes(b"fine", name="next.txt")).text == "fine"


async def test_a_process_is_used_for_file_after_file(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox()
    assert await works(sandbox)
    first = children()
    with pytest.raises(ParseError):
        await sandbox.parse_bytes(b"", name="refused.txt")
    assert await works(sandbox)
    assert children() == first


async def test_no_more_processes_than_workers(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox(workers=2)
    documents = await asyncio.gather(*(sandbox.parse_bytes(b"%d" % i, name="a.txt") for i in range(8)))
    assert [document.text for document in documents] == [str(i) for i in range(8)]
    assert len(children()) == 2


async def test_time_that_runs_out_ends_the_file_not_the_sandbox(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox(timeout_seconds=0.5)
    with pytest.raises(ParseError, match=r"^slow.html: took longer than 0.5 s.*`parsing.timeout_seconds`"):
        await sandbox.parse_bytes(SLOW_PAGE, name="slow.html")
    assert children() == []
    assert await works(await make_sandbox())
    assert await works_at_last(sandbox)


@linux_only
async def test_cpu_time_is_counted_for_each_file_alone(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox(cpu_seconds=1)
    busy = b"<b>" * 6_000 + b"text"
    for _ in range(8):  # more than a second together
        assert (await sandbox.parse_bytes(busy, name="busy.html")).text.strip() == "text"
    with pytest.raises(ParseError, match=r"^slow.html: took more than 1 s of CPU.*`parsing.cpu_seconds`"):
        await sandbox.parse_bytes(SLOW_PAGE, name="slow.html")
    assert await works(sandbox)


@linux_only
async def test_memory_that_runs_out_ends_the_file_not_the_sandbox(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox(memory_mb=400)
    with pytest.raises(ParseError, match=r"^large.html: .*400 MB of memory.*`parsing.memory_mb`"):
        await sandbox.parse_bytes(b"<p>x" * 4_000_000, name="large.html")
    assert await works(sandbox)


@linux_only
async def test_a_large_text_never_stands_in_the_childs_memory(make_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = await make_sandbox(memory_mb=128)
    path = tmp_path / "large.log"
    line = "größe " * 20 + "\r\n"
    path.write_bytes(line.encode() * 700_000)
    document = await sandbox.parse(path)
    assert document.text == line.replace("\r", "") * 700_000


async def test_text_beyond_the_output_limit_is_refused(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox(max_output_chars=1000)
    assert len((await sandbox.parse_bytes(b"x" * 1000, name="a.txt")).text) == 1000
    with pytest.raises(
        ParseError, match=r"^a.txt: holds more than 1000 characters.*`parsing.max_output_chars`"
    ):
        await sandbox.parse_bytes(b"x" * 20_000_000, name="a.txt")
    assert await works(sandbox)


async def test_a_file_beyond_the_size_limit_is_refused_unread(make_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = await make_sandbox(max_file_bytes=1 << 20)
    path = tmp_path / "sparse.txt"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ParseError, match=r"over the limit of 1048576.*`parsing.max_file_bytes`"):
        await sandbox.parse(path)


async def test_a_process_that_died_idle_is_replaced(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox()
    assert await works(sandbox)
    the_child().kill()  # the event loop has not heard of it yet
    assert await works(sandbox)


async def test_a_parser_that_cannot_start_says_so(
    make_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = await make_sandbox()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ParseError, match=r"^a.txt: the parser does not start"):
        await sandbox.parse_bytes(b"text", name="a.txt")
    monkeypatch.undo()
    assert await works(sandbox)


async def test_a_process_killed_at_work_fails_its_file_only(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox()
    parsing = asyncio.create_task(sandbox.parse_bytes(SLOW_PAGE, name="slow.html"))
    (await a_busy_child(parsing)).kill()
    with pytest.raises(ParseError, match=r"^slow.html: the parser was killed"):
        await parsing
    assert await works(sandbox)


async def test_a_cancelled_file_leaves_no_process_and_no_rest_of_its_answer(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox()
    parsing = asyncio.create_task(sandbox.parse_bytes(SLOW_PAGE, name="slow.html"))
    await a_busy_child(parsing)
    parsing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await parsing
    assert children() == []
    assert await works(sandbox)


async def test_an_interrupt_from_the_terminal_does_not_end_the_parser(make_sandbox: Sandbox) -> None:
    sandbox = await make_sandbox()
    assert await works(sandbox)
    child = the_child()
    assert os.getsid(child.pid) != os.getsid(0)
    child.send_signal(signal.SIGINT)
    assert await works(sandbox)
    assert children() == [child]


_PARENT = """
import asyncio, psutil
from embedfleet.parsing.sandbox import ParserSandbox
from embedfleet.settings import ParsingSettings

async def main():
    parsing = asyncio.create_task(
        ParserSandbox(ParsingSettings()).parse_bytes(b"<b>" * 300_000 + b"text", name="slow.html")
    )
    while not (children := psutil.Process().children()) or children[0].cpu_times().user < 0.5:
        await asyncio.sleep(0.01)
    print(children[0].pid, flush=True)
    await parsing

asyncio.run(main())
"""


@linux_only
def test_a_busy_process_dies_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    assert psutil.wait_procs([child], timeout=HANG_SECONDS)[1] == []


@linux_only
async def test_the_process_knows_no_secrets(make_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDFLEET_DATABASE__URL", "postgresql://user:secret@host/db")
    assert await works(await make_sandbox())
    assert "secret" not in str(the_child().environ())


async def test_modules_in_the_current_folder_are_not_run(
    make_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "msgpack.py").write_text("raise SystemExit('a stranger ran')")
    monkeypatch.chdir(tmp_path)
    # With an empty entry at its end, which is the current folder for Python.
    monkeypatch.setenv("PYTHONPATH", import_path(Path(__file__).parents[1]) + os.pathsep)
    assert await works(await make_sandbox())


@linux_only
async def test_the_process_may_write_no_file_and_leave_no_core(make_sandbox: Sandbox) -> None:
    assert await works(await make_sandbox())
    child = the_child()
    assert child.rlimit(psutil.RLIMIT_FSIZE)[0] == 0
    assert child.rlimit(psutil.RLIMIT_CORE)[0] == 0


async def test_nothing_is_left_on_the_disk(
    make_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    sandbox = await make_sandbox()
    for data, name in ((pdf(["x"]), "a.pdf"), (docx(["x"]), "a.docx"), (epub({"x": "y"}), "a.epub")):
        await sandbox.parse_bytes(data, name=name)
    assert os.listdir(tmp_path) == []


def _may_leave_the_network() -> bool:
    try:
        return subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@linux_only
@pytest.mark.skipif(not _may_leave_the_network(), reason="this system allows no network namespaces")
async def test_the_process_has_no_network(make_sandbox: Sandbox) -> None:
    assert await works(await make_sandbox())
    child = the_child()
    assert os.readlink(f"/proc/{child.pid}/ns/net") != os.readlink("/proc/self/ns/net")


def test_the_process_loads_no_models_and_no_database() -> None:
    script = "import sys, embedfleet.parsing.child; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    heavy = {"chromadb", "onnxruntime", "numpy", "pydantic", "sqlalchemy", "tokenizers", "kreuzberg"}
    assert heavy & set(loaded.split()) == set()


async def test_a_path_that_is_no_regular_file_is_refused_without_blocking(
    make_sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox = await make_sandbox()
    fifo, link, plug = tmp_path / "fifo.txt", tmp_path / "link.txt", tmp_path / "plug.txt"
    os.mkfifo(fifo)
    link.symlink_to(tmp_path / "gone.txt")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(plug))
        for path, reason in (
            (tmp_path, "is a folder"),
            (fifo, "is not a regular file"),
            (Path("/dev/zero"), "is not a regular file"),
            (link, "does not exist"),
            (tmp_path / "gone.txt", "does not exist"),
            (plug, "cannot be read"),
        ):
            with pytest.raises(ParseError) as caught:
                await sandbox.parse(path)
            assert str(caught.value).startswith(f"{path}: {reason}")


async def test_a_relative_path_is_the_parents(
    make_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sandbox = await make_sandbox()
    assert await works(sandbox)  # the process started in another folder
    (tmp_path / "a.txt").write_text("here")
    monkeypatch.chdir(tmp_path)
    assert (await sandbox.parse(Path("a.txt"))).text == "here"


# --- many files at once ---

BUSY_PAGE = b"<b>" * 6_000 + b"text"  # a quarter of a second of CPU


def write_files(folder: Path, contents: Sequence[bytes | str], suffix: str = "txt") -> list[Path]:
    paths = [folder / f"{number:03}.{suffix}" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return paths


async def answers_to(sandbox: ParserSandbox, paths: Sequence[Path]) -> list[str]:
    """The text of each file, or the message that says why there is none."""
    async with contextlib.aclosing(sandbox.parse_many(paths)) as answers:
        return [str(answer) if isinstance(answer, ParseError) else answer.text async for answer in answers]


async def test_many_files_are_answered_in_order_by_one_process(make_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = await make_sandbox()
    assert await works(sandbox)
    first = children()
    paths = write_files(tmp_path, [f"text {number}" for number in range(50)])
    paths[20].unlink()
    paths[30].write_bytes(b"")
    answers = await answers_to(sandbox, paths)
    assert answers[20] == f"{paths[20]}: does not exist (any more): check the path"
    assert answers[30] == f"{paths[30]}: is empty: there is nothing to embed"
    others = [number for number in range(50) if number not in (20, 30)]
    assert [answers[number] for number in others] == [f"text {number}" for number in others]
    assert children() == first


@linux_only
@pytest.mark.parametrize(
    ("limits", "content", "suffix", "reason"),
    [
        ({"timeout_seconds": 2}, SLOW_PAGE, "html", "took longer than 2 s"),
        ({"cpu_seconds": 1}, SLOW_PAGE, "html", "took more than 1 s of CPU"),
        ({"memory_mb": 400}, b"<p>x" * 4_000_000, "html", "400 MB of memory"),
        ({"max_output_chars": 1000}, b"x" * 1001, "txt", "holds more than 1000 characters"),
    ],
)
async def test_a_file_that_costs_the_process_its_life_takes_no_neighbour_with_it(
    make_sandbox: Sandbox, tmp_path: Path, limits: dict[str, Any], content: bytes, suffix: str, reason: str
) -> None:
    sandbox = await make_sandbox(**limits)
    paths = write_files(tmp_path, [f"text {number}" for number in range(8)])
    bad = [tmp_path / f"{name}.{suffix}" for name in ("first", "second")]
    for path in bad:
        path.write_bytes(content)
    answers = await answers_to(sandbox, [*paths[:3], *bad, *paths[3:]])
    assert answers[:3] + answers[5:] == [f"text {number}" for number in range(8)]
    for path, answer in zip(bad, answers[3:5], strict=True):
        assert answer.startswith(f"{path}: ")
        assert reason in answer
    assert await works(sandbox)


@linux_only
async def test_cpu_time_is_counted_for_each_of_many_files_alone(
    make_sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox = await make_sandbox(cpu_seconds=1)
    paths = write_files(tmp_path, [BUSY_PAGE] * 8, "html")  # more than a second together
    assert {answer.strip() for answer in await answers_to(sandbox, paths)} == {"text"}


async def test_more_names_and_more_text_than_the_pipes_hold_do_not_block_each_other(
    make_sandbox: Sandbox, tmp_path: Path
) -> None:
    """The process cannot take the last names before the parent has taken the first texts."""
    folder = tmp_path.joinpath(*["long" * 50] * 10)
    folder.mkdir(parents=True)
    contents = ["x" * 300_000] * 2 + ["y"] * 200
    assert await answers_to(await make_sandbox(), write_files(folder, contents)) == contents


async def test_files_that_are_left_early_leave_no_process_and_no_rest_of_their_answers(
    make_sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox = await make_sandbox()
    paths = write_files(tmp_path, [f"text {number}" for number in range(8)])
    async with contextlib.aclosing(sandbox.parse_many(paths)) as answers:
        await anext(answers)
    assert children() == []
    assert await works(sandbox)


async def test_the_hash_is_of_the_bytes_that_were_parsed(make_sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox = await make_sandbox()
    (path,) = write_files(tmp_path, [b"one\r\n"])
    assert (await sandbox.parse(path)).source_hash == source_hash_of(io.BytesIO(b"one\r\n"))
    path.write_bytes(b"x" * (BLOCK_BYTES + 1))
    assert (await sandbox.parse(path)).source_hash is None
