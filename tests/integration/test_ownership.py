"""One data directory, one owner: between real processes, however they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from embedfleet.data_directory import DataDirectoryLock, ReadersShare, owner_of
from embedfleet.errors import ConfigError, DataDirectoryInUse

HOLD = """
    import sys
    from pathlib import Path
    from embedfleet.data_directory import DataDirectoryLock

    lock = DataDirectoryLock(Path(sys.argv[1]), purpose="embedfleet run")
    lock.acquire()
    print("owned", flush=True)
    sys.stdin.read()
"""

# Ends at once, leaving behind a child that it made by fork, or by fork and exec; the child says its pid.
LEAVE_CHILD = """
    import os, subprocess, sys
    from pathlib import Path
    from embedfleet.data_directory import DataDirectoryLock

    lock = DataDirectoryLock(Path(sys.argv[1]), purpose="embedfleet run")
    lock.acquire()
    if sys.argv[2] == "exec":
        child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], close_fds=False).pid
    else:
        child = os.fork()
        if child == 0:
            sys.stdin.read()
            os._exit(0)
    print(child, flush=True)
    os._exit(0)
"""


@contextmanager
def running(program: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A Python program with a pipe to it; closing the pipe ends it."""
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        yield child


@contextmanager
def owned_by_another_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    with running(HOLD, str(data_dir)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "owned\n"
        yield child


def test_a_second_process_is_told_who_owns_the_directory_and_what_to_do(tmp_path: Path) -> None:
    with owned_by_another_process(tmp_path) as owner, pytest.raises(DataDirectoryInUse) as refused:
        DataDirectoryLock(tmp_path, purpose="second").acquire()
    message = str(refused.value)
    assert f"{tmp_path} is in use by process {owner.pid} on " in message
    assert "(embedfleet run, since 20" in message
    assert "stop it first, or set data_dir" in message
    assert "\n" not in message


def test_the_owner_can_be_asked_for_and_is_not_disturbed(tmp_path: Path) -> None:
    with owned_by_another_process(tmp_path) as child:
        for _ in range(2):
            owner = owner_of(tmp_path)
            assert owner is not None
            assert (owner.pid, owner.purpose) == (child.pid, "embedfleet run")
            assert timedelta(0) <= datetime.now(UTC) - owner.since < timedelta(minutes=2)


def test_sigkill_of_the_owner_frees_the_directory_at_once_whatever_its_record_says(tmp_path: Path) -> None:
    with owned_by_another_process(tmp_path) as owner:
        owner.send_signal(signal.SIGKILL)
    assert (tmp_path / "owner.json").exists()
    assert owner_of(tmp_path) is None
    with DataDirectoryLock(tmp_path, purpose="next"):
        now = owner_of(tmp_path)
        assert now is not None
        assert (now.pid, now.purpose) == (os.getpid(), "next")


@pytest.mark.parametrize("way", ["fork", "exec"])
def test_a_child_that_outlives_the_owner_does_not_keep_the_directory(tmp_path: Path, way: str) -> None:
    with running(LEAVE_CHILD, str(tmp_path), way) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        owner.wait()
        os.kill(child, 0)  # it is alive
        with DataDirectoryLock(tmp_path, purpose="next"):
            pass


def test_release_frees_the_directory_and_may_be_repeated(tmp_path: Path) -> None:
    lock = DataDirectoryLock(tmp_path, purpose="first")
    lock.release()
    lock.acquire()
    lock.release()
    lock.release()
    assert owner_of(tmp_path) is None
    with DataDirectoryLock(tmp_path, purpose="second"):
        lock.release()  # no longer its to release
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.purpose == "second"


def test_two_locks_in_one_process_exclude_each_other_too(tmp_path: Path) -> None:
    with (
        DataDirectoryLock(tmp_path, purpose="first"),
        pytest.raises(DataDirectoryInUse, match=f"process {os.getpid()} "),
    ):
        DataDirectoryLock(tmp_path, purpose="second").acquire()


def test_another_thread_may_release(tmp_path: Path) -> None:
    lock = DataDirectoryLock(tmp_path, purpose="first")
    lock.acquire()
    releaser = threading.Thread(target=lock.release)
    releaser.start()
    releaser.join()
    assert owner_of(tmp_path) is None


@pytest.mark.parametrize("record", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}', "\xff"])
def test_an_unreadable_record_blocks_nobody_and_hides_no_owner(tmp_path: Path, record: str) -> None:
    (tmp_path / "owner.json").write_text(record, encoding="latin-1")
    with DataDirectoryLock(tmp_path, purpose="first"):
        (tmp_path / "owner.json").write_text(record, encoding="latin-1")
        owner = owner_of(tmp_path)
        assert owner is not None
        assert owner.pid == 0
        with pytest.raises(DataDirectoryInUse, match="try again in a moment"):
            DataDirectoryLock(tmp_path, purpose="second").acquire()


def test_asking_for_the_owner_refuses_nobody(tmp_path: Path) -> None:
    """The question holds the lock for an instant; whoever acquires meanwhile waits it out."""
    lock = DataDirectoryLock(tmp_path, purpose="first")
    lock.acquire()
    lock.release()
    asked_enough = threading.Event()

    def ask() -> None:
        while not asked_enough.is_set():
            owner_of(tmp_path)

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(200):
            lock.acquire()
            lock.release()
    finally:
        asked_enough.set()
        asker.join()


def test_asking_about_a_missing_directory_makes_nothing(tmp_path: Path) -> None:
    assert owner_of(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_the_directory_is_made_for_its_user_only_and_an_existing_one_left_as_it_is(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path / "a" / "data", purpose="first"):
        assert stat.S_IMODE((tmp_path / "a" / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "a" / "data" / "owner.lock").stat().st_mode) == 0o600
    (tmp_path / "shared").mkdir(mode=0o750)
    with DataDirectoryLock(tmp_path / "shared", purpose="first"):
        assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o750


def test_the_record_can_be_read_by_people_and_goes_with_the_owner(tmp_path: Path) -> None:
    with DataDirectoryLock(tmp_path, purpose="embedfleet run"):
        record = json.loads((tmp_path / "owner.json").read_text())
        assert set(record) == {"pid", "host", "purpose", "since", "answers_searches"}
    assert not (tmp_path / "owner.json").exists()


@pytest.mark.parametrize("below", ["file", "file/data"])
def test_a_directory_that_cannot_be_made_is_a_wrong_setting(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"data_dir: cannot write in .*choose another directory"):
        DataDirectoryLock(tmp_path / below, purpose="first").acquire()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_directory_is_a_wrong_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigError, match=r"data_dir: cannot write in .*Permission denied"):
            DataDirectoryLock(tmp_path, purpose="first").acquire()
    finally:
        tmp_path.chmod(0o700)


SHARE = """
    import sys
    from pathlib import Path
    from embedfleet.data_directory import ReadersShare

    share = ReadersShare(Path(sys.argv[1]))
    share.acquire()
    print("sharing", flush=True)
    sys.stdin.read()
"""

# Says when it begins to wait for the readers, and when it is the owner.
OWN_AFTER_READERS = """
    import sys, time
    from pathlib import Path
    from embedfleet.data_directory import DataDirectoryLock

    lock = DataDirectoryLock(Path(sys.argv[1]), purpose="embedfleet ingest", answers_searches=True)
    attempts = lock._attempts()
    next(attempts)
    print("waiting", flush=True)
    for _ in attempts:
        time.sleep(0.01)
    print("owned", flush=True)
    sys.stdin.read()
"""


@contextmanager
def said(program: str, word: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """A running program that has said this word."""
    with running(program, *args) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"{word}\n"
        yield child


def line_of(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


class TestReaders:
    def test_readers_do_not_exclude_each_other_and_are_no_owners(self, tmp_path: Path) -> None:
        with said(SHARE, "sharing", str(tmp_path)), said(SHARE, "sharing", str(tmp_path)):
            with ReadersShare(tmp_path):
                assert owner_of(tmp_path) is None
            assert not (tmp_path / "owner.json").exists()

    def test_a_reader_is_told_the_owner_at_once(self, tmp_path: Path) -> None:
        with (
            owned_by_another_process(tmp_path) as owner,
            pytest.raises(DataDirectoryInUse, match=f"in use by process {owner.pid} "),
        ):
            ReadersShare(tmp_path).acquire()

    def test_an_owner_waits_for_readers_and_no_later_reader_gets_before_it(self, tmp_path: Path) -> None:
        """Otherwise searches that overlap without a gap would keep an owner out for ever."""
        with said(SHARE, "sharing", str(tmp_path)) as reader:
            with said(OWN_AFTER_READERS, "waiting", str(tmp_path)) as owner:
                later = ReadersShare(tmp_path)._attempts()
                for _ in range(50):
                    next(later)
                assert reader.stdin is not None
                reader.stdin.close()
                assert line_of(owner) == "owned"
                with pytest.raises(DataDirectoryInUse, match="embedfleet ingest"):
                    for _ in later:
                        pass
            with ReadersShare(tmp_path):
                assert owner_of(tmp_path) is None

    def test_a_killed_reader_is_not_awaited(self, tmp_path: Path) -> None:
        with (
            said(SHARE, "sharing", str(tmp_path)) as reader,
            said(OWN_AFTER_READERS, "waiting", str(tmp_path)) as owner,
        ):
            reader.send_signal(signal.SIGKILL)
            assert line_of(owner) == "owned"

    def test_a_killed_owner_that_was_waiting_lets_readers_in(self, tmp_path: Path) -> None:
        with said(SHARE, "sharing", str(tmp_path)):
            with said(OWN_AFTER_READERS, "waiting", str(tmp_path)) as owner:
                owner.send_signal(signal.SIGKILL)
            with ReadersShare(tmp_path):
                pass

    def test_a_reader_that_hangs_is_not_awaited_for_ever(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("embedfleet.data_directory._READERS_SECONDS", 0.0)
        with (
            said(SHARE, "sharing", str(tmp_path)),
            pytest.raises(DataDirectoryInUse, match=r"searches have been running.*look for one that hangs"),
        ):
            DataDirectoryLock(tmp_path, purpose="second").acquire()

    async def test_waiting_lets_the_event_loop_go_on(self, tmp_path: Path) -> None:
        lock = DataDirectoryLock(tmp_path, purpose="second")
        with said(SHARE, "sharing", str(tmp_path)) as reader:
            acquiring = asyncio.create_task(lock.__aenter__())
            await asyncio.sleep(0)
            assert not acquiring.done()
            assert reader.stdin is not None
            reader.stdin.close()
            async with await acquiring:
                assert owner_of(tmp_path) is not None

    async def test_an_owner_that_stops_waiting_lets_readers_in(self, tmp_path: Path) -> None:
        with said(SHARE, "sharing", str(tmp_path)):
            acquiring = asyncio.create_task(DataDirectoryLock(tmp_path, purpose="second").__aenter__())
            await asyncio.sleep(0)
            acquiring.cancel()
            with pytest.raises(asyncio.CancelledError):
                await acquiring
            with ReadersShare(tmp_path):
                pass

    @pytest.mark.parametrize("answers", [True, False])
    def test_the_record_says_whether_the_owner_answers_searches(self, tmp_path: Path, answers: bool) -> None:
        with DataDirectoryLock(tmp_path, purpose="first", answers_searches=answers):
            owner = owner_of(tmp_path)
            assert owner is not None
            assert owner.answers_searches is answers
