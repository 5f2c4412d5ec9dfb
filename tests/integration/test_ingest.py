"""Files become jobs in batches, and what is promised for each file holds for each of a batch."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from embedfleet.errors import EmbedfleetError, ParseError
from embedfleet.ingest import (
    FileOutcome,
    FileState,
    Ingest,
    IngestOptions,
    LocalIntake,
    find_files,
    local_intake,
)
from embedfleet.ingest import files as files_of_ingest
from embedfleet.job_manager import EmbeddingJobManager, JobManagerConfig
from embedfleet.parsing.formats import ParsedDocument
from embedfleet.parsing.process import ParserProcess
from embedfleet.parsing.sandbox import ParserSandbox, StrPath
from embedfleet.queue_schemas import JobStatus
from embedfleet.settings import ParsingSettings, Settings
from support.hangs import HANG_SECONDS
from support.statements import statements
from support.system import TENANT, make_settings

SUBMITTED, UNCHANGED, RESUMED, FAILED = (
    FileState.SUBMITTED,
    FileState.UNCHANGED,
    FileState.RESUMED,
    FileState.FAILED,
)


@asynccontextmanager
async def ingesting(
    settings: Settings, sandbox: type[ParserSandbox] = ParserSandbox, *, strict: bool = False
) -> AsyncIterator[tuple[Ingest, EmbeddingJobManager]]:
    """An ingest without workers: its jobs stay as they were submitted."""
    async with (
        EmbeddingJobManager(JobManagerConfig(settings=settings)) as jobs,
        sandbox(ParsingSettings()) as parser,
    ):
        options = IngestOptions(tenant=TENANT, strict=strict)
        yield Ingest(LocalIntake(jobs, parser, options.tenant), options), jobs


async def submitted(ingest: Ingest, files: Iterable[StrPath]) -> list[FileOutcome]:
    return [outcome async for outcome in ingest.submit(files)]


def notes(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:04}.txt" for number in range(count)]
    for number, path in enumerate(paths):
        path.write_text(f"Note {number} of {folder.name}.")
    return paths


async def test_the_work_for_each_file_does_not_grow_with_their_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However slow the machine is, a batch is not ended for it.
    monkeypatch.setattr(local_intake, "_LONGEST_WAIT_SECONDS", HANG_SECONDS)
    sent: list[int] = []
    really_send = ParserProcess.send

    def send(process: ParserProcess, requests: Sequence[Any]) -> None:
        sent.append(len(requests))
        really_send(process, requests)

    monkeypatch.setattr(ParserProcess, "send", send)
    counts = []
    async with ingesting(make_settings(tmp_path)) as (ingest, _):
        for count in (200, 400):
            files = notes(tmp_path / str(count), count)
            sent.clear()
            with statements() as executed:
                outcomes = await submitted(ingest, files)
            assert [outcome.state for outcome in outcomes] == [SUBMITTED] * count
            assert sum(sent) == count
            counts.append((len(sent), len(executed)))
    (few_requests, few_statements), (many_requests, many_statements) = counts
    assert few_requests == -(-200 // files_of_ingest.BATCH_FILES)
    assert many_requests <= 2.2 * few_requests
    assert many_statements <= 2.2 * few_statements
    # Not some statements for each file, but for each batch.
    assert few_statements < 200


async def test_outcomes_come_in_order_whatever_they_are(tmp_path: Path) -> None:
    paths = notes(tmp_path / "notes", 6)
    undecodable = paths[0].with_name(os.fsdecode(b"\xff.txt"))
    undecodable.write_text("Its name is no text.")
    async with ingesting(make_settings(tmp_path)) as (ingest, _):
        first = await submitted(ingest, [paths[1], paths[3]])
        paths[4].write_bytes(b"")
        paths[5].unlink()
        files = [paths[0], paths[1], paths[2], paths[3], undecodable, paths[4], paths[5]]
        outcomes = await submitted(ingest, files)
        assert [outcome.state for outcome in outcomes] == [
            *(SUBMITTED, RESUMED, SUBMITTED, RESUMED),
            *(FAILED, FileState.EMPTY, FAILED),
        ]
        assert [outcomes[1].job_id, outcomes[3].job_id] == [outcome.job_id for outcome in first]
        assert "its name is not valid UTF-8" in str(outcomes[4].error)
        assert "not a regular file" in str(outcomes[6].error)


async def test_what_is_skipped_is_counted_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "to").symlink_to(tmp_path / ".git")
    for name in ("a.txt", "b.XYZ", "c.xyz", "notes", ".hidden"):
        (tmp_path / name).write_text("text")
    found = find_files([tmp_path])
    assert found.files == [str(tmp_path / "a.txt")]
    assert found.skipped == {".xyz": 2, "no suffix": 1, "hidden": 2, "linked folder": 1}
    assert not find_files([tmp_path], ["*.txt"]).skipped


async def test_a_file_that_is_emptied_loses_its_document_and_one_that_never_had_text_is_none(
    tmp_path: Path,
) -> None:
    had, never = notes(tmp_path / "notes", 2)
    never.write_text(" \n")
    async with ingesting(make_settings(tmp_path)) as (ingest, jobs):
        await submitted(ingest, [had])
        had.write_bytes(b"")
        outcomes = await submitted(ingest, [had, never])
        assert [outcome.state for outcome in outcomes] == [FileState.EMPTIED, FileState.EMPTY]
        assert [document async for document in jobs.of(TENANT).all_documents()] == []


async def test_a_strict_ingest_refuses_what_lost_content_and_a_later_one_takes_it(tmp_path: Path) -> None:
    broken = tmp_path / "a.txt"
    broken.write_bytes("größer ".encode() * 50 + b"\xff")
    settings = make_settings(tmp_path)
    for strict, state in ((True, FAILED), (False, SUBMITTED), (True, FAILED)):
        async with ingesting(settings, strict=strict) as (ingest, _):
            (outcome,) = await submitted(ingest, [broken])
            assert outcome.state is state
            assert "replaced by U+FFFD" in (outcome.error or outcome.account.warnings[0])


async def test_a_quota_that_ends_inside_of_a_batch_refuses_only_what_is_beyond_it(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, tenants={"tiers": {"free": {"weight": 1, "max_active_jobs": 11}}})
    paths = notes(tmp_path / "notes", 30)
    async with ingesting(settings) as (ingest, jobs):
        outcomes = await submitted(ingest, paths)
        assert [outcome.state for outcome in outcomes] == [SUBMITTED] * 11 + [FAILED] * 19
        assert [outcome.source for outcome in outcomes] == [str(path) for path in paths]
        for outcome in outcomes[11:]:
            assert "11" in str(outcome.error)
            assert files_of_ingest.media_id_of(outcome.source) in str(outcome.error)
        assert len(await jobs.of(TENANT).list_jobs()) == 11


async def test_a_document_over_the_limit_takes_no_other_of_its_batch_with_it(tmp_path: Path) -> None:
    settings = make_settings(
        tmp_path, tenants={"tiers": {"free": {"weight": 1, "max_document_chars": 1_000}}}
    )
    paths = notes(tmp_path / "notes", 9)
    paths[4].write_text("long " * 1_000)
    async with ingesting(settings) as (ingest, _):
        outcomes = await submitted(ingest, paths)
    assert [outcome.state for outcome in outcomes] == [SUBMITTED] * 4 + [FAILED] + [SUBMITTED] * 4


async def test_jobs_run_again_together_and_one_that_cannot_is_named(tmp_path: Path) -> None:
    paths = notes(tmp_path / "notes", 3)
    paths[1].write_bytes(b"")
    async with ingesting(make_settings(tmp_path)) as (ingest, jobs):
        outcomes = await submitted(ingest, paths)
        ids = [str(outcome.job_id) for outcome in outcomes]
        await jobs.of(TENANT).cancel(ids[0])
        refused = await ingest._run_again([*ids, "job_of_no_document"])
        assert list(refused) == [*ids[1:], "job_of_no_document"]
        assert (await jobs.get_job_status(ids[0])).status is JobStatus.PENDING


class Rewriting(ParserSandbox):
    """Each file changes after it was hashed and before it is parsed."""

    async def parse_many(self, paths: Sequence[StrPath]) -> AsyncGenerator[ParsedDocument | ParseError, None]:
        for path in paths:
            await asyncio.to_thread(Path(path).write_text, "The later text.")
        async with aclosing(super().parse_many(paths)) as answers:
            async for answer in answers:
                yield answer


async def test_a_file_that_changes_before_it_is_parsed_gets_the_hash_of_its_text(tmp_path: Path) -> None:
    (path,) = notes(tmp_path / "notes", 1)
    earlier = path.read_bytes()
    async with ingesting(make_settings(tmp_path), Rewriting) as (ingest, _):
        (first,) = await submitted(ingest, [path])
    async with ingesting(make_settings(tmp_path)) as (ingest, _):
        (again,) = await submitted(ingest, [path])
        assert (again.state, again.job_id) == (RESUMED, first.job_id)
        path.write_bytes(earlier)
        (back,) = await submitted(ingest, [path])
        assert back.state is SUBMITTED
        assert back.job_id != first.job_id


def slow_after(count: int, gate: asyncio.Event) -> type[ParserSandbox]:
    """Makes a sandbox that waits at the gate before it gives a batch's answers after the first ones."""

    class Slow(ParserSandbox):
        async def parse_many(
            self, paths: Sequence[StrPath]
        ) -> AsyncGenerator[ParsedDocument | ParseError, None]:
            async with aclosing(super().parse_many(paths)) as answers:
                number = 0
                async for answer in answers:
                    if number == count:
                        await gate.wait()
                    number += 1
                    yield answer

    return Slow


async def test_a_slow_file_does_not_hold_back_those_before_it(tmp_path: Path) -> None:
    gate = asyncio.Event()
    paths = notes(tmp_path / "notes", 5)
    async with (
        ingesting(make_settings(tmp_path), slow_after(3, gate)) as (ingest, _),
        asyncio.timeout(HANG_SECONDS),
    ):
        outcomes = ingest.submit(paths)
        early = [await anext(outcomes) for _ in range(3)]
        assert [outcome.state for outcome in early] == [SUBMITTED] * 3
        gate.set()
        assert len([outcome async for outcome in outcomes]) == 2


async def test_a_stop_during_the_transaction_still_tells_of_its_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitting, gate = asyncio.Event(), asyncio.Event()
    really_create = EmbeddingJobManager.create_each

    async def create_each(self: EmbeddingJobManager, requests: Sequence[Any]) -> list[str | EmbedfleetError]:
        submitting.set()
        await gate.wait()
        return await really_create(self, requests)

    monkeypatch.setattr(EmbeddingJobManager, "create_each", create_each)
    told: list[FileOutcome] = []

    async def tell(outcomes: AsyncIterator[FileOutcome]) -> None:
        async for outcome in outcomes:
            told.append(outcome)

    paths = notes(tmp_path / "notes", files_of_ingest.BATCH_FILES + 1)
    async with ingesting(make_settings(tmp_path)) as (ingest, jobs), asyncio.timeout(HANG_SECONDS):
        task = asyncio.create_task(tell(ingest.submit(paths)))
        await submitting.wait()
        task.cancel()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        created = await jobs.of(TENANT).list_jobs(limit=1_000)
    assert created
    assert {outcome.job_id for outcome in told} == {job.job_id for job in created}
    assert len(told) <= files_of_ingest.BATCH_FILES


async def test_little_text_is_in_memory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_intake, "_GROUP_CHARS", 1_000)
    monkeypatch.setattr(local_intake, "_LONGEST_WAIT_SECONDS", HANG_SECONDS)
    folder = tmp_path / "notes"
    folder.mkdir()
    paths = [folder / f"{number}.txt" for number in range(30)]
    for number, path in enumerate(paths):
        path.write_text(f"{number:03} " * 100)
    together: list[int] = []
    really_create = EmbeddingJobManager.create_each

    async def create_each(self: EmbeddingJobManager, requests: Sequence[Any]) -> list[str | EmbedfleetError]:
        together.append(sum(len(request.content) for request in requests))
        return await really_create(self, requests)

    monkeypatch.setattr(EmbeddingJobManager, "create_each", create_each)
    async with ingesting(make_settings(tmp_path)) as (ingest, _):
        await submitted(ingest, paths)
    assert sum(together) == 30 * 400
    assert max(together) < 1_000 + 400


@pytest.mark.parametrize(
    ("sizes", "batches"),
    [
        ([], []),
        ([10], [1]),
        ([10] * (files_of_ingest.BATCH_FILES + 1), [files_of_ingest.BATCH_FILES, 1]),
        ([10, files_of_ingest.BATCH_BYTES, 10], [1, 1, 1]),
        ([files_of_ingest.BATCH_BYTES // 2] * 4, [2, 2]),
        ([10, files_of_ingest.BATCH_BYTES * 3, 10, 10], [1, 1, 2]),
    ],
)
def test_a_batch_is_of_small_files_and_a_large_one_is_alone(
    tmp_path: Path, sizes: Sequence[int], batches: Sequence[int]
) -> None:
    paths = [tmp_path / str(number) for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        with path.open("wb") as file:
            file.truncate(size)
    made = list(files_of_ingest.batches_of(paths))
    assert [len(batch) for batch in made] == batches
    assert [source for batch in made for source in batch] == [str(path) for path in paths]


def test_files_are_found_once_each_in_order_by_name_and_pattern(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "deep"
    inside.mkdir(parents=True)
    for path in (tmp_path / "b.md", tmp_path / "a" / "c.txt", inside / "d.txt", tmp_path / "a" / ".e.txt"):
        path.write_text("text")
    (tmp_path / "a" / "odd.xyz").write_text("text")
    found: Callable[..., list[str]] = lambda *globs: [  # noqa: E731
        os.path.relpath(file, tmp_path) for file in find_files([tmp_path, tmp_path / "b.md"], globs).files
    ]
    assert found() == ["b.md", "a/c.txt", "a/deep/d.txt"]
    assert found("*.xyz") == ["a/odd.xyz", "b.md"]
    assert found("a/deep/*") == ["a/deep/d.txt", "b.md"]
