"""What a person is shown of where things are, and what each kind of process imports."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from embedfleet import bootstrap
from embedfleet.bootstrap import places
from embedfleet.settings import load_settings


@pytest.mark.parametrize(
    ("redis", "chroma", "queues", "vectors"),
    [
        (None, None, "in this process", "/d/chroma"),
        (
            "redis://u:hush@h/1",
            "http://u:hush@c:8000/path",
            "Redis at h:6379",
            "http://c:8000/path",
        ),
        (
            "redis+sentinel://:hush@a:1,b/service",
            "https://c",
            "Redis at service of a:1,b:26379",
            "https://c",
        ),
    ],
)
def test_places_are_shown_without_user_and_password(
    redis: str | None, chroma: str | None, queues: str, vectors: str
) -> None:
    settings = load_settings(
        environ={},
        overrides={"data_dir": "/d", "redis": {"url": redis}, "vector_store": {"url": chroma}},
    )
    assert places(settings) == {"queues": queues, "vectors": vectors}


def test_every_name_of_the_package_is_what_its_module_defines() -> None:
    for name in bootstrap.__all__:
        assert getattr(bootstrap, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'open_sesame'"):
        _ = bootstrap.open_sesame


@pytest.mark.parametrize(
    ("program", "kind", "without"),
    [
        (
            "embedfleet.worker_process",
            "open_worker",
            "adoption api assembly cli host job_manager leader repair search traffic worker_orchestrator",
        ),
        ("embedfleet.cli.systems.local", "open_guest", "adoption api assembly host leader repair workers"),
    ],
)
def test_a_process_imports_only_what_it_runs(program: str, kind: str, without: str) -> None:
    # A worker is started again and again, and each of these parts takes time to import.
    code = f"""
import json, sys
import {program}
from embedfleet.bootstrap import {kind}
print(json.dumps([name for name in sys.modules if name.startswith("embedfleet.")]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parts = {name.split(".")[1] for name in json.loads(ran.stdout)}
    assert parts & set(without.split()) == set()
    assert "bootstrap" in parts
