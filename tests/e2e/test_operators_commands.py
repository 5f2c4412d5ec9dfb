"""What an operator types: `embedfleet dlq` and `embedfleet events`."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest
from sqlalchemy import Connection

from embedfleet.bootstrap import open_guest
from embedfleet.queue_schemas import JobStatus, Stage
from embedfleet.records import dead_letters, events, job_completion, jobs
from embedfleet.records.dead_letters import DeadLetter
from embedfleet.settings import load_settings
from support.command import Command, finish


@pytest.fixture
def failed(command: Command) -> str:
    """A job of tenant `local` that failed with a dead letter, its event numbered."""
    return asyncio.run(_fail_one(command, "local"))


async def _fail_one(command: Command, tenant: str) -> str:
    settings = load_settings(environ=command.environment())
    async with open_guest(settings) as guest:
        job_id = await guest.jobs.create_job(
            media_id="book", user_id=tenant, content="a text", source="b.txt"
        )

        def fail(conn: Connection) -> None:
            jobs.lock(conn, job_id)
            dead_letters.add(conn, {job_id: [DeadLetter(Stage.EMBEDDING, "not [finite]", 0, 0, 0, 6)]}, 1.0)
            job_completion.finish(conn, [job_id], JobStatus.FAILED, reason="1 of 1 chunks failed", now=1.0)
            events.assign_positions(conn, 10)

        await guest.database.write(fail)
    return job_id


def test_dead_letters_are_listed_shown_and_run_again(command: Command, failed: str) -> None:
    listed = command.typed("dlq", "list", "--json").document["dead_letters"]
    assert [(one["job_id"], one["source"], one["start"], one["end"]) for one in listed] == [
        (failed, "b.txt", 0, 6)
    ]
    number = str(listed[0]["dead_letter_id"])
    shown = command.typed("dlq", "show", number)
    assert (shown.code, "not [finite]" in shown.stdout, "a text" in shown.stdout) == (0, True, False)
    assert command.typed("dlq", "show", number, "--tenant", "other").code == 1
    assert "not [finite]" in command.typed("dlq", "list").stdout
    assert "not [finite]" in command.typed("dlq", "list", "--job", failed[:-2]).stdout
    done = command.typed("dlq", "requeue", number, "--json")
    assert (done.code, done.document["requeued"]) == (0, [failed])
    again = command.typed("dlq", "requeue", number)
    assert (again.code, again.stderr.count("\n")) == (1, 1)
    assert command.typed("jobs", "show", failed, "--json").document["job"]["status"] == "pending"


def test_a_job_is_named_by_a_start_of_its_id_that_no_other_has(command: Command, failed: str) -> None:
    other = asyncio.run(_fail_one(command, "other"))
    shared = next(failed[:size] for size in range(len(failed), 0, -1) if other.startswith(failed[:size]))
    ambiguous = command.typed("jobs", "cancel", shared)
    assert (ambiguous.code, failed in ambiguous.stderr, other in ambiguous.stderr) == (1, True, True)
    start = failed[: len(shared) + 1]
    assert command.typed("jobs", "show", start, "--json").document["job"]["job_id"] == failed
    assert command.typed("jobs", "retry", start, "--json").document["job_id"] == failed
    assert command.typed("jobs", "cancel", start, "--json").document == {
        "schema_version": 1,
        "job_id": failed,
        "cancelled": True,
    }
    assert command.typed("jobs", "show", other).code == 0
    for unknown in ("job_f", f"{failed}0", "job_%", failed[4:]):
        assert "no job" in command.typed("jobs", "show", unknown).stderr


def test_all_dead_letters_are_changed_only_with_a_confirmation(command: Command, failed: str) -> None:
    for asked in (("dlq", "purge"), ("dlq", "purge", "--all"), ("dlq", "purge", "1", "--job", failed)):
        assert command.typed(*asked).code == 2, asked
    purged = command.typed("dlq", "purge", "--all", "--yes", "--json")
    assert (purged.code, purged.document["purged"]) == (0, 1)
    assert command.typed("dlq", "list", "--json").document["dead_letters"] == []


def test_events_are_read_and_followed(command: Command, failed: str) -> None:
    read = command.typed("events", "--json").document["events"]
    assert [(one["event_id"], one["position"], one["status"]) for one in read] == [
        (f"{failed}:1", 1, "failed")
    ]
    assert command.typed("events", "--tenant", "other", "--json").document["events"] == []
    process = command.start("events", "--follow", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())
    second_job = asyncio.run(_fail_one(command, "other"))
    second = json.loads(process.stdout.readline())
    os.killpg(process.pid, signal.SIGINT)
    assert finish(process).code == 130
    assert [first, second["event_id"], second["position"]] == [read[0], f"{second_job}:1", 2]


def test_a_system_says_its_parts_and_is_moved_on_purpose(command: Command) -> None:
    empty = command.typed("system", "show", "--json").document
    assert (empty["system_id"], empty["parts"]["vectors"]["recorded"]) == (None, None)
    moved = command.typed("system", "move", "--yes")
    assert (moved.code, "`embedfleet rebuild`" in moved.stdout) == (0, True)
    shown = command.typed("system", "show", "--json").document
    assert shown["parts"]["vectors"]["recorded"] == shown["parts"]["vectors"]["settings"]
    assert f"system    {shown['system_id']}\n" in command.typed("system", "show").stdout
    assert "nothing to do" in command.typed("system", "move", "--yes").stdout
    (check,) = (
        one for one in command.typed("doctor", "--json").document["findings"] if one["check"] == "system"
    )
    assert (check["ok"], shown["system_id"] in check["detail"]) == (True, True)


@pytest.mark.parametrize("words", [("rebuild",), ("system", "move"), ("dlq", "purge", "--all")])
def test_without_a_terminal_nothing_is_asked_and_nothing_done(
    command: Command, words: tuple[str, ...]
) -> None:
    refused = command.run(*words)
    assert (refused.code, refused.stdout, "Give --yes" in refused.stderr) == (2, "", True)
