"""The table of what an operator sees: made from the result, and without what differs from run to run."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from chaos.operators import _BEGIN, _END, _publish, renew, sections
from chaos.signs import Signs, plain
from chaos.situations import SITUATIONS, Limits, unmounted_root


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("no space in /tmp/operators-x/one/data: make room", "no space in PATH: make room"),
        ("Redis at 127.0.0.1:4711 is away", "Redis at HOST:PORT is away"),
        ("2026-11-29 00:12:13.456 | WARNING | x", "TIME | WARNING | x"),
        ("owned by process 4711", "owned by process N"),
        ("job 0123456789abcdef failed", "job ID failed"),
        (f"on {socket.gethostname()},\n one line", "on HOST, one line"),
    ],
)
def test_what_differs_from_run_to_run_is_left_out(said: str, shown: str) -> None:
    assert plain(said) == shown


def seen() -> dict[str, dict[str, object]]:
    signs = Signs(doctor_code=1, doctor_says=["queues: away | down"], readyz_code=503, readyz_says="broker")
    signs.ended("serve-workers", 1, "INFO before\nerror: no\n")
    signs.log_lines, signs.log_seconds, signs.log_says = 3, 60.0, ["3 x away"]
    signs.harm = "nothing lost"
    return {"redis-away": signs.document(), "unmounted-root": {"could_not": "RuntimeError: no"}}


def test_the_page_has_a_section_for_each_situation_and_keeps_what_is_around_it(tmp_path: Path) -> None:
    result, page = tmp_path / "operators.json", tmp_path / "page.md"
    page.write_text(f"before\n{_BEGIN}\nold\n{_END}\nafter\n")
    _publish(seen(), result, away=60)
    assert renew(page, result) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{_BEGIN}\nBy `python -m chaos.operators`")
    assert text.endswith(f"\n{_END}\nafter\n")
    away = (
        "### Redis is away for 60 s\n\n"
        "- `doctor`, exit code 1: queues: away | down\n- `/readyz`: 503 broker\n"
        "- log: 3 lines a minute; 3 x away\n- `serve-workers`, exit code 1: error: no\n- harm: nothing lost\n"
    )
    assert away in text
    assert text.count("not run yet") == len(SITUATIONS) - 2
    assert "RuntimeError: no" in text


def test_a_situation_that_was_not_run_again_keeps_what_was_seen(tmp_path: Path) -> None:
    result = tmp_path / "operators.json"
    _publish(seen(), result, away=60)
    _publish({"unmounted-root": Signs(harm="nothing lost").document()}, result, away=60)
    text = sections(json.loads(result.read_text()))
    assert "`/readyz`: 503 broker" in text
    assert "RuntimeError: no" not in text


def test_a_page_without_the_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("no marks")
    assert renew(page, tmp_path / "no result") == 1
    assert "are missing: put them back" in capsys.readouterr().err


@pytest.mark.slow
async def test_a_situation_is_brought_about_with_real_processes(tmp_path: Path) -> None:
    signs = await unmounted_root(Limits(tmp_path, away_seconds=1, watch_seconds=1))
    assert signs.exit_of == "ingest --prune"
    assert signs.doctor_code == 0
    assert signs.harm
