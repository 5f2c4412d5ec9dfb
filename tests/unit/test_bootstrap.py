"""What a person is shown of where things are."""

from __future__ import annotations

import pytest

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
