"""`adopt` as its users run it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from support.command import Command, finish
from support.foreign_chroma import ForeignCollection, bytes_of, write_directory
from support.tldw_rows import Medium, media_collection, rows_of, write_media

USER = "7"
MEDIA = [Medium(number, [f"Text {number} part {part}." for part in range(4)]) for number in range(1, 6)]


def written(folder: Path, media: list[Medium] | None = None) -> Path:
    """The folder of a user of tldw_server."""
    user = folder / "users" / USER
    shown = MEDIA if media is None else media
    claims = ForeignCollection(f"claims_for_{USER}", rows_of([Medium(9, ["A claim."])]))
    write_directory(user / "chroma_storage", [media_collection(USER, rows_of(shown)), claims])
    write_media(user / "media.db", shown, deleted=[5])
    return user


def outcomes(document: dict[str, Any]) -> dict[str, int]:
    return {one["outcome"]: one["documents"] for one in document["documents"]}


def test_a_user_of_tldw_moves_in_with_one_command(command: Command) -> None:
    user = written(command.folder)
    before = bytes_of(user)
    texts = f"sqlite:{command.folder}/users/{{tenant}}/media.db"
    adopting = ("adopt", "--chroma", str(user / "chroma_storage"), "--layout", "tldw", "--text-from", texts)
    planned = command.typed(*adopting, "--dry-run", "--json")
    assert planned.code == 0, planned.stderr
    assert outcomes(planned.document) == {"take": 4, "drop": 1}
    assert (planned.document["dry_run"], planned.document["tokens_taken"]) == (True, 80)
    done = command.typed(*adopting)
    assert done.code == 0, done.stderr
    assert f"left alone, as the layout does not know them: claims_for_{USER}" in done.stdout
    assert "tokens that were not embedded again: 80" in done.stdout
    assert "compared there by l2, here by cosine" in done.stdout
    assert bytes_of(user) == before
    assert command.typed("verify").code == 0
    hits = command.typed("search", "--tenant", USER, "Text 3 part 2.", "--json").document["hits"]
    assert (hits[0]["media_id"], hits[0]["text"]) == ("3", "Text 3 part 2.")
    assert outcomes(command.typed(*adopting, "--json").document) == {"there": 4, "drop": 1}


def test_a_group_without_a_known_model_is_refused_until_one_is_named(command: Command) -> None:
    user = written(command.folder, [Medium(1, ["A text."], more={"embedding_model": "acme/unheard-of"})])
    adopting = ("adopt", "--chroma", str(user / "chroma_storage"), "--layout", "tldw")
    refused = command.typed(*adopting, "--json")
    assert refused.code == 3
    assert refused.document["groups"][0]["reason"].startswith("no configured model has this name")
    taken = command.typed(*adopting, "--model", "acme/unheard-of=stub", "--json")
    assert (taken.code, outcomes(taken.document)) == (0, {"take": 1})


def test_what_is_not_right_is_embedded_before_the_command_ends(command: Command) -> None:
    user = written(command.folder, [Medium(1, ["A chunk."], text="A chunk. And what came after it.")])
    texts = f"sqlite:{user}/media.db"
    done = command.typed(
        *(
            "adopt",
            "--chroma",
            str(user / "chroma_storage"),
            "--layout",
            "tldw",
            "--text-from",
            texts,
            "--json",
        )
    )
    assert (done.code, outcomes(done.document), done.document["jobs"]) == (0, {"embed": 1}, 1)
    (hit,) = command.typed("search", "--tenant", USER, "chunk", "--json").document["hits"]
    assert hit["text"] == "A chunk. And what came after it."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give one of --chroma, --lancedb, --pgvector"),
        (("--chroma", "a", "--pgvector", "b"), "give one of"),
        (("--chroma", ".", "--layout", "tdlw"), "did you mean `tldw`"),
        (("--chroma", "."), "is no directory of Chroma"),
        (("--chroma", "http://user:pass word@host"), "the source: "),
        (("--chroma", ".", "--text-from", "media.db"), "must be like sqlite:/path/to/media.db"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    command: Command, arguments: tuple[str, ...], message: str
) -> None:
    said = command.typed("adopt", *arguments)
    assert said.code != 0
    assert message in " ".join(said.stderr.split())


def test_the_vector_store_of_the_system_itself_is_no_source(command: Command) -> None:
    own = command.data_dir / "chroma"
    own.mkdir(parents=True)
    said = command.typed("adopt", "--chroma", str(own))
    assert (said.code, "it is the vector store of this system" in " ".join(said.stderr.split())) == (2, True)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty, as a copy is that was interrupted"), (b"not a database", "cannot be read")],
)
def test_a_damaged_source_is_named_and_no_repair_of_this_system_is_advised(
    command: Command, content: bytes, message: str
) -> None:
    source = command.folder / "broken"
    source.mkdir()
    (source / "chroma.sqlite3").write_bytes(content)
    said = " ".join(command.typed("adopt", "--chroma", str(source)).stderr.split())
    assert str(source) in said
    assert message in said
    assert "rebuild" not in said


@pytest.mark.slow
def test_an_adoption_that_is_killed_five_times_ends_complete_and_equal(command: Command) -> None:
    """Each kill comes when a few more documents are here than at the one before."""
    media = [
        Medium(number, [f"Document {number}, paragraph {part}." for part in range(4)])
        for number in range(2_000)
    ]
    user = written(command.folder, media)
    adopting = ("adopt", "--chroma", str(user / "chroma_storage"), "--layout", "tldw")
    for kill in range(5):
        running = command.start(*adopting)
        command.wait_for_completed(running, 300 * (kill + 1))
        running.send_signal(signal.SIGKILL)
        finish(running)
    done = command.typed(*adopting, "--json")
    assert done.code == 0, done.stderr
    assert sum(outcomes(done.document).values()) == 2_000
    assert [path.name for path in command.data_dir.glob("source-*")] == []
    sampled = command.typed("verify", "--sample", "1.0", "--json")
    assert sampled.code == 0, sampled.stdout
    (collection,) = sampled.document["collections"]
    assert (collection["rows"], sampled.document["embedded"]) == (8_000, 8_000)
