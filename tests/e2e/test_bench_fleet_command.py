"""`embedfleet bench fleet`: the figures of a fleet that runs, with a load of its own and without."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from embedfleet.cli.output import NOTHING_DONE, WRONG_USAGE
from support.command import Command, finish
from support.loopback_server import free_port


@contextmanager
def orchestrator(command: Command, port: int) -> Iterator[None]:
    process = command.start("serve-workers", env=port_of(port))
    assert process.stdout is not None
    try:
        assert any(line.startswith("ready") for line in process.stdout), "it ended before it was ready"
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        finish(process)


def port_of(port: int) -> dict[str, str]:
    return {"EMBEDFLEET_MONITORING__METRICS_PORT": str(port)}


def test_a_load_is_measured_and_leaves_nothing_behind(tmp_path: Path) -> None:
    command, port = Command(tmp_path), free_port()
    with orchestrator(command, port):
        done = command.typed("bench", "fleet", "--load", "12", "--json", env=port_of(port))
        assert done.code == 0, done.stderr
        found = done.document
        load = found["load"]
        assert (load["documents"], load["failed"]) == (12, 0)
        # Each chunk went through each stage within the window, and was counted there.
        model = found["models"]["stub"]
        assert model["texts_per_second"] * found["seconds"] >= load["chunks"] * 0.99
        rows = found["vector_store"]["rows_per_second"] * found["seconds"]
        assert rows == pytest.approx(load["chunks"], rel=0.01)
        assert 0 < model["chunk_tokens"]["p50"] <= model["chunk_tokens"]["p95"] <= 8_192
        assert 0 < model["busy_share"] < 1
        for stage in ("chunking", "embedding", "storage"):
            assert found["stages"][stage]["tasks_per_second"] > 0
        assert found["cpu_cores"]["orchestrator"] > 0
        assert len(found["orchestrators"]) == 1
        assert found["not_measured"] == []
        documents = command.typed("documents", "list", "--json", "--tenant", tenant_of(command))
        assert documents.document["documents"] == []

        # Another look at the same fleet, as people read it. Nothing goes on, and that is what it says.
        shown = command.typed(
            "bench", "fleet", "--seconds", "2", "--metrics", f"http://127.0.0.1:{port}/metrics"
        )
        assert shown.code == 0, shown.stderr
        assert shown.stdout.startswith("1 orchestrator (")
        assert "embedding cache: - of the chunks were known" in shown.stdout


def tenant_of(command: Command) -> str:
    """The tenant of the load: it is in the audit log, as its erasure is an operator's deed."""
    entries = command.typed("audit", "--json").document["audit"]
    return next(str(one["tenant_id"]) for one in entries if str(one["tenant_id"]).startswith("bench-"))


def test_a_port_that_does_not_answer_is_named(tmp_path: Path) -> None:
    port = free_port()
    done = Command(tmp_path).typed("bench", "fleet", "--json", env=port_of(port))
    assert done.code == NOTHING_DONE
    assert f"no metrics at http://127.0.0.1:{port}/metrics" in json.loads(done.stdout)["error"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--metrics", "node3:9090"], "must be a URL, such as http://node3:9090"),
        ([], "monitoring.metrics_port is 0 in these settings"),
        (["--server", "http://127.0.0.1:1"], "a server does not tell the monitoring ports"),
        (["--load", "1", "--seconds", "5"], "leave out --seconds"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_clear_words(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = Command(tmp_path).typed("bench", "fleet", *arguments)
    assert done.code in (NOTHING_DONE, WRONG_USAGE)
    assert said in " ".join(done.stderr.split())
