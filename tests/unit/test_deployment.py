"""What the settings add up to, and what cannot go together."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.deployment import Deployment, deployment_of
from embedfleet.errors import ConfigError
from embedfleet.settings import load_settings

REDIS = {"redis": {"url": "redis://h"}}
CHROMA = {"vector_store": {"url": "http://h:8000"}}
POSTGRES = {"database": {"url": "postgresql://h/x"}}
RAY = {"orchestrator": {"launcher": "ray"}}
INLINE = {"orchestrator": {"launcher": "inline"}}
NONE = {"orchestrator": {"launcher": "none"}}


def views(*given: dict[str, str], url: str | None = None) -> dict[str, Any]:
    """Views that differ in these keys."""
    made = [{"name": "rag", "layout": "tldw"} | one for one in given]
    return {"vector_store": {"views": made, "url": url}}


def deployment(**overrides: Any) -> Deployment:
    return deployment_of(load_settings(environ={}, overrides=overrides))


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, Deployment(shared_broker=False, worker_processes=False, owns_data_directory=True)),
        (CHROMA, Deployment(shared_broker=False, worker_processes=False, owns_data_directory=True)),
        (REDIS | CHROMA, Deployment(shared_broker=True, worker_processes=True, owns_data_directory=False)),
        (
            REDIS | CHROMA | INLINE,
            Deployment(shared_broker=True, worker_processes=False, owns_data_directory=False),
        ),
        (REDIS | INLINE, Deployment(shared_broker=True, worker_processes=False, owns_data_directory=True)),
        (
            REDIS | CHROMA | NONE,
            Deployment(shared_broker=True, worker_processes=True, owns_data_directory=False, launches=False),
        ),
        (
            REDIS | POSTGRES | CHROMA | RAY,
            Deployment(shared_broker=True, worker_processes=True, owns_data_directory=False, ray=True),
        ),
    ],
)
def test_services_decide_the_deployment(overrides: dict[str, Any], expected: Deployment) -> None:
    assert deployment(**overrides) == expected


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"orchestrator": {"launcher": "process"}}, "set `redis.url`"),
        (REDIS, "set `vector_store.url`"),
        (NONE, "launcher` is `none`, but the queues are in this process"),
        (REDIS | NONE, "set `vector_store.url`"),
        (
            REDIS | CHROMA | NONE | {"worker_pools": {"storage": {"memory_limit_mb": 100}}},
            "memory_limit_mb` is for workers that an orchestrator starts",
        ),
        ({"vector_store": {"kind": "pgvector"}}, "there is no PostgreSQL: set `database.url`"),
        (RAY, "`orchestrator.launcher` is `ray`, but the queues are in this process"),
        (REDIS | CHROMA | RAY, "nodes of a Ray cluster cannot share a database in the data directory"),
        (
            REDIS | POSTGRES | CHROMA | RAY | {"worker_pools": {"embedding": {"devices": ["cuda:0"]}}},
            "set `worker_pools.embedding.resources.num_gpus` in its place",
        ),
        (
            REDIS | POSTGRES | CHROMA | RAY | {"worker_pools": {"embedding": {"workers_per_device": 2}}},
            "set `worker_pools.embedding.resources.num_gpus` to 0.5 in its place",
        ),
        (
            REDIS | CHROMA | NONE | {"worker_pools": {"embedding": {"resources": {"num_gpus": 1}}}},
            "`worker_pools.embedding.resources` is for the launcher `ray`",
        ),
        (
            REDIS | CHROMA | NONE | {"ray": {"address": "h:6379"}},
            "`ray.address` is for the launcher `ray`",
        ),
        ({"worker_pools": {"embedding": {"devices": ["cuda:0"]}}}, r"`worker_pools.embedding.devices`"),
        ({"worker_pools": {"storage": {"memory_limit_mb": 100}}}, r"`worker_pools.storage.memory_limit_mb`"),
        (views({}), "view `rag` needs a `path` or a `url`"),
        (views({"path": "p", "url": "http://h"}), "and not both"),
        (views({"path": "p"}, {"path": "q"}), "view `rag` is there twice"),
        (REDIS | views({"path": "p"}, url="http://h"), "view `rag` has a `path`, but a fleet"),
        (views({"path": "p/{user}"}), r"only `\{tenant\}`"),
        (views({"path": "p"}, {"name": "two", "path": "./p/"}), "view `two` writes the same collections as"),
        (
            views(
                {"url": "http://h", "collection": "mine"},
                {"name": "two", "url": "http://h/", "collection": "mine"},
            ),
            "view `two` writes the same collections as view `rag`",
        ),
        (views({"path": "p", "collection": "x/{tenant}"}), "has the collection `x/"),
    ],
)
def test_what_cannot_go_together_or_would_be_ignored_is_refused_by_name(
    overrides: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        deployment(**overrides)
