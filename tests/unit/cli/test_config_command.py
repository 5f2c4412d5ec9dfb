"""`embedfleet config from-tldw` writes a settings file that every command takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.settings import load_settings
from support.command import Command


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command(tmp_path)


def test_the_file_is_on_stdout_and_what_is_lost_on_stderr(command: Command) -> None:
    given = command.folder / "config.txt"
    given.write_text(
        "[Embeddings]\nembedding_provider = openai\nembedding_model = text-embedding-3-small\n"
        "max_models_in_memory = 3\n"
    )
    result = command.typed("config", "from-tldw", given, "--users", "/srv/users")
    assert result.code == 0
    assert result.stderr == (
        "warning: `max_models_in_memory`: models are bounded by memory, `models.memory_mb`\n"
    )
    made = command.folder / "made.yaml"
    made.write_text(result.stdout)
    settings = load_settings(made, environ={})
    assert settings.models.default == "text-embedding-3-small"
    (view,) = settings.vector_store.views
    assert (view.layout, view.path) == ("tldw", "/srv/users/{tenant}/chroma_storage")
    assert (view.reader_provider, view.reader_model) == ("openai", "text-embedding-3-small")
    as_json = command.typed("config", "from-tldw", given, "--json")
    assert as_json.document["settings"]["models"]["default"] == "text-embedding-3-small"
    assert len(as_json.document["warnings"]) == 1


def test_another_file_is_an_error_in_one_line(command: Command) -> None:
    result = command.typed("config", "from-tldw", "missing.txt")
    assert (result.code, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert "missing.txt" in result.stderr
