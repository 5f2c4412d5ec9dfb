"""Programs of `tests/e2e/test_privacy.py`: they run traced, and everything that they need runs inside.

`python -m support.private_scenes SCENE FOLDER MINILM_FOLDER`. Prints "done" when all went well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.chroma_server import ChromaServer
from support.databases import PostgresDatabases
from support.embedding_server import EmbeddingServer
from support.fleet import Fleet
from support.postgres_server import PostgresServer
from support.redis_server import RedisServer

MODELS = ("minilm", "table", "torch", "remote")
"""One of each backend."""

_UNTIL_A_REPORT_SECONDS = 12.0
"""onnxruntime sends its first report within ten seconds, so its process must live that long."""


def embedded(folder: Path, minilm: Path) -> None:
    """Every command that works alone, with every backend."""
    with EmbeddingServer() as server:
        config = _config(folder, minilm, server)
        _ingest_and_search(folder, config)
        for command in ("doctor", "verify", "models", "documents list", "jobs list"):
            _embedfleet(config, *command.split())
        _embedfleet(config, "backup", str(folder / "all.tar"))


def fleet(folder: Path, minilm: Path) -> None:
    """Orchestrator and workers on real servers, with every backend, for longer than a report takes."""
    with ExitStack() as stack:
        postgres = stack.enter_context(PostgresServer())
        services = {
            "database": {"url": stack.enter_context(PostgresDatabases(postgres).migrated())},
            "redis": {"url": stack.enter_context(RedisServer()).url},
            "vector_store": {"url": stack.enter_context(ChromaServer(folder / "chroma")).url},
            "monitoring": {"metrics_host": "0.0.0.0"},
        }
        server = stack.enter_context(EmbeddingServer())
        config = _config(folder, minilm, server, **services)
        system = Fleet(folder, json.loads(config.read_text()))
        orchestrator = stack.enter_context(system.orchestrator())
        _ingest_and_search(folder, config)
        time.sleep(_UNTIL_A_REPORT_SECONDS)  # there is no event: what is awaited must not come
        assert orchestrator.stop() == 0


def _config(folder: Path, minilm: Path, server: EmbeddingServer, **services: Any) -> Path:
    catalogue: Mapping[str, Any] = {
        "table": {"backend": "static"},
        "torch": {"backend": "torch", "path": str(minilm), "devices": ["cpu"]},
        "remote": server.entry(),
    }
    models = {"catalogue": catalogue, "microbatch_tokens": 2048, "cache_dir": str(folder / "graphs")}
    config = folder / "config.yaml"
    config.write_text(json.dumps({"data_dir": str(folder / "data"), "models": models, **services}))
    return config


def _ingest_and_search(folder: Path, config: Path) -> None:
    for model in MODELS:
        corpus = folder / f"corpus-{model}"
        corpus.mkdir()
        (corpus / f"{model}.html").write_text(f"<h1>Cats</h1><p>The {model} cat sat on the mat.</p>")
        _embedfleet(config, "ingest", str(corpus), "--model", model)
        found = _embedfleet(config, "search", "which cat sat", "--model", model, "--json")
        assert f"The {model} cat" in found, found


def _embedfleet(config: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "embedfleet", *arguments, "--config", str(config)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


if __name__ == "__main__":
    {"embedded": embedded, "fleet": fleet}[sys.argv[1]](Path(sys.argv[2]), Path(sys.argv[3]))
    print("done")
