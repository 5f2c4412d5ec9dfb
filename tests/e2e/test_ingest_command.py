"""`embedfleet ingest` and `search`, typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.command import Command

_TOTALS = {
    "files",
    "ingested",
    "unchanged",
    "failed",
    "unfinished",
    "pruned",
    "chunks_stored",
    "chunks_embedded",
    "chunks_reused",
    "seconds",
    "empty",
    "emptied",
    "skipped",
}
_SUMS = {"errors", "account", "skipped", "budget"}


def test_what_was_ingested_is_found_with_exactly_the_promised_keys(command: Command, corpus: Path) -> None:
    ingested = command.run("ingest", corpus, "--json")
    assert (ingested.code, ingested.stderr) == (0, "")
    document = ingested.document
    assert set(document) == {"schema_version", "tenant", "interrupted", "totals", "files", *_SUMS}
    assert set(document["totals"]) == _TOTALS
    assert {key for file in document["files"] for key in file} == {
        "source",
        "state",
        "job",
        "error",
        "account",
        "warnings",
    }

    found = command.run("search", "The cat sat on the mat.", "--json")
    assert (found.code, found.stderr) == (0, "")
    scope = {"model", "models", "not_searched", "notice", "remedy", "exact", "candidates", "impression_id"}
    assert set(found.document) == {"schema_version", "query", "hits"} | scope
    hits = found.document["hits"]
    assert {hit["source"] for hit in hits} == {str(corpus / "cats.md"), str(corpus / "dogs.txt")}
    for hit in hits:
        passage = ["score", "source", "media_id", "chunk_id", "start", "end", "heading", "text"]
        assert list(hit) == [
            *passage,
            "page",
            "start_seconds",
            "end_seconds",
            "context",
            "metadata",
            "copies",
            "model",
            "calibrated",
        ]
        assert Path(hit["source"]).read_text()[hit["start"] : hit["end"]] == hit["text"]


def test_the_default_model_ranks_the_file_that_answers_first(tmp_path: Path, corpus: Path) -> None:
    command = Command(tmp_path, model="minilm")
    (corpus / "tax.txt").write_text("Income tax returns are due at the end of July.\n")
    (corpus / "bread.txt").write_text("Knead the dough, let it rise, then bake it in a hot oven.\n")
    assert command.run("ingest", corpus).code == 0
    found = command.run("search", "how do I make a loaf", "--json")
    assert found.document["hits"][0]["source"] == str(corpus / "bread.txt")


def test_metadata_of_files_filters_a_search(command: Command, corpus: Path) -> None:
    (corpus / "cats.md.meta.json").write_text('{"pet": "cat", "tags": ["soft"]}')
    assert command.typed("ingest", corpus, "--meta", "year=2024", "--meta", "pet=none").code == 0

    def found(*options: str | Path) -> list[str]:
        result = command.typed("search", "The animal", "--json", *options)
        assert result.document["exact"]
        return sorted({Path(hit["source"]).name for hit in result.document["hits"]})

    assert found("--where", "pet=cat") == ["cats.md"]
    assert found("--where", '{"tags": {"$contains": "soft"}}', "--where", "year=2024") == ["cats.md"]
    assert found("--where", "year=2024") == ["cats.md", "dogs.txt"]
    assert found("--source", corpus / "d", "--created-after", "2020-01-01") == ["dogs.txt"]
    assert found("--created-before", "2020-01-01") == []
    shown = command.typed("search", "The animal", "--where", "pet=none").stdout
    assert "exact: every passage that is allowed was compared, 1 in all" in shown

    listed = command.typed("documents", "list", "--where", "pet=cat", "--json").document["documents"]
    assert [(Path(one["source"]).name, one["metadata"]["year"]) for one in listed] == [("cats.md", 2024)]
    both = command.typed("documents", "delete", "cats.md", "--where", "pet=cat")
    assert (both.code, "not both" in both.stderr) == (1, True)
    assert command.typed("documents", "delete").code == 1
    assert "that is meant" in command.typed("documents", "delete", "--where", "pet=dog").stderr
    deleted = command.typed("documents", "delete", "--where", "pet=cat", "--json").document
    assert deleted["deleted"] == [listed[0]["media_id"]]
    assert found("--where", "year=2024") == ["dogs.txt"]


def test_an_unchanged_file_embeds_nothing_and_a_changed_one_only_what_is_new(
    command: Command, corpus: Path
) -> None:
    assert command.typed("ingest", corpus).code == 0
    again = command.typed("ingest", corpus, "--json").document["totals"]
    assert (again["unchanged"], again["chunks_embedded"], again["chunks_stored"]) == (2, 0, 0)

    (corpus / "cats.md").write_text("# Cats\n\nThe cat sat on the mat.\n\n# Mice\n\nThe mouse ran away.\n")
    changed = command.typed("ingest", corpus, "--json").document["totals"]
    assert (changed["ingested"], changed["unchanged"]) == (1, 1)
    texts = [hit["text"] for hit in command.typed("search", "mouse", "-k", "50", "--json").document["hits"]]
    assert len(texts) == len(set(texts)) == changed["chunks_stored"] + 1
    assert any("mouse" in text for text in texts)


def test_one_bad_file_never_stops_the_others_and_is_named(command: Command, corpus: Path) -> None:
    (corpus / "empty.txt").touch()
    (corpus / "junk.pdf").write_bytes(b"\x00\x9f\x92" * 500)
    result = command.typed("ingest", corpus, corpus / "gone.txt", "--json")
    assert result.code == 3
    assert result.document["totals"]["ingested"] == 2
    sources = [error["source"] for error in result.document["errors"]]
    assert sorted(sources) == [str(corpus / name) for name in ("gone.txt", "junk.pdf")]
    assert result.document["totals"]["empty"] == 1
    assert len(result.stderr.splitlines()) == 2


def test_a_file_that_cannot_be_read_is_a_failed_job_with_a_dead_letter_until_it_is_mended(
    command: Command, corpus: Path
) -> None:
    broken = corpus / "report.txt"
    broken.write_bytes(b"\x00\x9f\x92" * 500)
    for _ in range(2):  # told twice, noted once
        outcome = command.typed("ingest", str(corpus), "--json")
        assert outcome.code == 3
    (job,) = command.typed("jobs", "list", "--status", "failed", "--json").document["jobs"]
    assert (job["source"], job["chars"]) == (str(broken), 0)
    (letter,) = command.typed("dlq", "list", "--json").document["dead_letters"]
    assert (letter["stage"], letter["source"], letter["reason"]) == ("chunking", str(broken), job["reason"])
    refused = command.typed("dlq", "requeue", str(letter["dead_letter_id"]))
    assert refused.code == 1
    assert "mend it and ingest it again" in refused.stderr
    assert command.typed("search", "cat", "--json").document["hits"]
    broken.write_text("Now it is plain text about rivers.")
    assert command.typed("ingest", str(corpus), "--json").code == 0
    assert command.typed("dlq", "list", "--json").document["dead_letters"] == []


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("ingest", "nowhere"), 1, "no such file or folder"),
        (("ingest", "corpus", "--model", "nope"), 1, "known are"),
        (("ingest", "corpus", "--chunk-size", "10", "--overlap", "10"), 1, "must be smaller"),
        (("ingest", "corpus", "--glob", "*.zz"), 1, "matches *.zz: change the pattern (--glob)"),
        (("ingest", "corpus", "--bogus"), 2, "No such option"),
        (("search", "  "), 1, "query: is empty"),
        (("search", "cat", "--where", "team"), 1, "--where: `team` must be NAME=VALUE"),
        (("search", "cat", "--where", "{team"), 1, "is not JSON"),
        (("search", "cat", "--where", '{"a": {"$no": 1}}'), 1, "`$no` is no operator"),
        (("ingest", "corpus", "--meta", "team"), 1, "--meta: `team` must be NAME=VALUE"),
        (("search",), 2, "Missing argument"),
        (("jobs", "show", "nope"), 1, "jobs list"),
        (("jobs", "retry", "nope"), 1, "jobs list"),
        (("documents", "delete", "nope"), 1, "documents list"),
    ],
)
def test_a_mistake_is_one_json_document_and_no_traceback(
    command: Command, corpus: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    result = command.typed(*arguments, "--json")
    assert result.code == code
    assert words in str(result.document)
    assert words in result.stderr
    assert "Traceback" not in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_an_unknown_setting_and_an_unusable_data_directory_are_named(command: Command, corpus: Path) -> None:
    unknown = command.typed("ingest", corpus, env={"EMBEDFLEET_NOPE": "1"})
    assert unknown.code == 1
    assert "EMBEDFLEET_NOPE" in unknown.stderr
    (command.folder / "file").touch()
    unusable = command.typed("ingest", corpus, "--data-dir", command.folder / "file" / "data")
    assert unusable.code == 1
    assert len(unusable.stderr.splitlines()) == 1


def test_a_folder_without_a_known_format_says_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "file.xyz").write_text("x")
    result = command.typed("ingest", "odd")
    assert result.code == 1
    assert "no file of a known format" in result.stderr


def test_odd_names_links_pipes_and_repeats_are_each_taken_once_or_named(
    command: Command, corpus: Path
) -> None:
    (corpus / "[red]x.txt").write_text("A name with markup.\n")
    (corpus / ".hidden.txt").write_text("Not taken.\n")
    (corpus / "loop").symlink_to(corpus)
    os.mkfifo(corpus / "pipe.txt")
    with open(os.fsencode(corpus) + b"/bad\xff.txt", "w") as file:
        file.write("Its name is no text.\n")
    result = command.run("ingest", corpus, corpus, corpus / "cats.md", "--tenant", "o'neil/../x y")
    assert result.code == 3
    assert result.stdout.startswith("3 ingested, 0 unchanged, 2 failed")
    assert r"bad\xff.txt: its name is not valid UTF-8" in result.stderr
    assert "pipe.txt: not a regular file" in result.stderr
    assert "[red]x.txt" in command.typed("search", "markup", "--tenant", "o'neil/../x y").stdout


def test_prune_deletes_what_is_gone_but_not_what_a_missing_folder_held(
    command: Command, corpus: Path
) -> None:
    assert command.typed("ingest", corpus).code == 0
    (corpus / "dogs.txt").unlink()
    pruned = command.typed("ingest", corpus, "--prune", "--json")
    assert (pruned.code, pruned.document["totals"]["pruned"]) == (0, 1)
    hits = command.typed("search", "dog", "--json").document["hits"]
    assert [hit["source"] for hit in hits] == [str(corpus / "cats.md")]

    corpus.rename(corpus.with_name("unmounted"))
    missing = command.typed("ingest", corpus, "--prune", "--json")
    assert (missing.code, missing.document["totals"]["pruned"]) == (1, 0)
    listed = command.typed("documents", "list").stdout.splitlines()[1:]
    assert [line.split() for line in listed] == [[str(corpus / "cats.md"), "stub", "live"]]


def test_an_emptied_folder_is_pruned_only_on_request_as_it_may_be_a_share_that_is_not_mounted(
    command: Command, corpus: Path
) -> None:
    assert command.typed("ingest", corpus).code == 0
    for file in corpus.iterdir():
        file.unlink()
    refused = command.typed("ingest", corpus, "--prune", "--json")
    assert (refused.code, refused.document["totals"]["pruned"]) == (1, 0)
    assert f"{corpus}: no file is there, but 2 documents came from it" in refused.stderr
    assert "--prune-all" in refused.stderr

    shown = command.typed("ingest", corpus, "--prune-all", "--dry-run")
    assert (shown.code, shown.stdout.count("would delete ")) == (0, 2)
    listed = command.typed("documents", "list", "--json").document["documents"]
    assert len(listed) == 2, "a dry run changes nothing"

    insisted = command.typed("ingest", corpus, "--prune-all", "--json")
    assert (insisted.code, insisted.document["totals"]["pruned"]) == (0, 2)


def test_a_dry_run_says_what_would_be_ingested_and_changes_nothing(command: Command, corpus: Path) -> None:
    assert command.typed("ingest", corpus / "cats.md").code == 0
    shown = command.typed("ingest", corpus, corpus / "nope.txt", "--prune", "--dry-run", "--json")
    assert (shown.code, shown.document["dry_run"]) == (3, True)
    assert shown.document["totals"] == {"ingested": 1, "unchanged": 1, "pruned": 0, "failed": 1}
    assert {file["source"]: file["state"] for file in shown.document["files"]} == {
        str(corpus / "nope.txt"): "failed",
        str(corpus / "cats.md"): "unchanged",
        str(corpus / "dogs.txt"): "submitted",
    }
    assert len(command.typed("jobs", "list", "--json").document["jobs"]) == 1


def test_a_file_that_moved_is_stored_before_its_old_document_is_pruned_with_its_cached_vectors(
    command: Command, corpus: Path
) -> None:
    assert command.typed("ingest", corpus).code == 0
    (corpus / "dogs.txt").rename(corpus / "hounds.txt")
    files = command.typed("ingest", corpus, "--prune", "--json").document["files"]
    assert [(Path(file["source"]).name, file["state"]) for file in files] == [
        ("cats.md", "unchanged"),
        ("hounds.txt", "submitted"),
        ("dogs.txt", "pruned"),
    ]
    assert files[1]["job"]["status"] == "completed"


def test_pruning_ends_the_failed_job_and_the_dead_letter_of_a_file_that_is_gone(
    command: Command, corpus: Path
) -> None:
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    assert command.typed("ingest", corpus).code == 3
    assert len(command.typed("dlq", "list", "--json").document["dead_letters"]) == 1
    (corpus / "broken.pdf").unlink()
    assert command.typed("ingest", corpus, "--prune").code == 0
    assert command.typed("dlq", "list", "--json").document["dead_letters"] == []
    statuses = [job["status"] for job in command.typed("jobs", "list", "--json").document["jobs"]]
    assert statuses == ["completed", "completed"]


def test_a_document_keeps_its_model_unless_one_is_chosen(command: Command, corpus: Path) -> None:
    """Without `--model` it is not embedded again by the default model, changed or not."""
    assert command.typed("ingest", corpus / "cats.md", "--model", "minilm").code == 0
    unchanged = command.typed("ingest", corpus)
    assert unchanged.stdout.startswith("1 ingested, 1 unchanged, 0 failed")
    assert "model `minilm` is kept by the documents of 1 file: --model moves" in unchanged.stderr
    (corpus / "cats.md").write_text("Other cats.\n")
    assert command.typed("ingest", corpus).stdout.startswith("1 ingested, 1 unchanged, 0 failed")

    def models() -> dict[str, str]:
        found = command.typed("documents", "list", "--json").document["documents"]
        return {Path(one["source"]).name: one["model"] for one in found}

    assert models() == {"cats.md": "minilm", "dogs.txt": "stub"}
    moved = command.typed("ingest", corpus, "--model", "stub")
    assert (moved.code, moved.stderr) == (0, "")
    assert models() == {"cats.md": "stub", "dogs.txt": "stub"}


def test_a_document_is_deleted_by_the_end_of_its_source_if_only_one_has_it_failed_ones_too(
    command: Command, corpus: Path
) -> None:
    (corpus / "more").mkdir()
    (corpus / "more" / "cats.md").write_text("Other cats.\n")
    (corpus / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    assert command.typed("ingest", corpus).code == 3
    listed = command.typed("documents", "list", "--json").document["documents"]
    assert [(Path(one["source"]).name, one["state"]) for one in listed] == [
        ("broken.pdf", "failed"),
        ("cats.md", "live"),
        ("dogs.txt", "live"),
        ("cats.md", "live"),
    ]
    ambiguous = command.typed("documents", "delete", "cats.md")
    assert (ambiguous.code, "2 documents end in cats.md" in ambiguous.stderr) == (1, True)
    assert command.typed("documents", "delete", "more/cats.md", "broken.pdf").code == 0
    left = command.typed("documents", "list", "--json").document["documents"]
    assert [Path(one["source"]).name for one in left] == ["cats.md", "dogs.txt"]
    assert command.typed("dlq", "list", "--json").document["dead_letters"] == []


def test_deleting_known_and_unknown_documents_is_one_document_and_partly_done(
    command: Command, corpus: Path
) -> None:
    assert command.typed("ingest", corpus).code == 0
    result = command.typed("documents", "delete", "corpus/cats.md", "nope", "--json")
    assert result.code == 3
    document = result.document
    [receipt] = document.pop("receipts")
    assert receipt["media_id"].startswith("file-")
    assert document == {"schema_version": 1, "deleted": ["corpus/cats.md"], "unknown": ["nope"]}
    hits = command.typed("search", "cat", "--json").document["hits"]
    assert [hit["source"] for hit in hits] == [str(corpus / "dogs.txt")]


def test_what_is_left_out_is_said_by_every_command_that_shows_the_document(
    command: Command, corpus: Path
) -> None:
    (corpus / "menu.html").write_text("<h1>Mill</h1><nav><a href='x'>Home</a></nav><p>The wheel turned.</p>")
    (corpus / "old.xyz").write_text("of no known format")
    (corpus / "empty.txt").touch()
    told = command.typed("ingest", corpus)
    assert told.code == 0
    lines = told.stdout.splitlines()
    assert "1 empty" in lines[0]
    assert f"[{corpus / 'menu.html'}]" in next(line for line in lines if line.startswith("left out: 1 menu"))
    assert "(1 .xyz)" in next(line for line in lines if line.startswith("skipped: 1 "))

    shown = command.typed("documents", "show", "menu.html")
    assert "account      left out: 1 menu" in shown.stdout
    document = command.typed("documents", "show", "menu.html", "--json").document["document"]
    (entry,) = document["account"]["entries"]
    assert (entry["code"], entry["effect"], entry["chars"]) == ("html.navigation", "furniture", 4)
    assert 0 < document["coverage"] < 1
    assert command.typed("documents", "show", "nothing.html").code == 1

    formats = command.typed("formats", "--json").document["formats"]
    assert "html" in {one["format"] for one in formats}
