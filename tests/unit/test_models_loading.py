"""What is tried by `models warm` is what a worker will run."""

from __future__ import annotations

import pytest

from embedfleet.cli.models_loading import configured_models, selected_models, with_worker_threads
from embedfleet.errors import UnknownModel
from embedfleet.inference.catalogue import available_cores
from embedfleet.settings import Settings, load_settings


def settings_of(**overrides: object) -> Settings:
    return load_settings(environ={}, overrides=overrides)


def test_a_worker_of_a_fleet_has_its_share_of_the_cores() -> None:
    embedded = settings_of(models={"threads": 3})
    assert with_worker_threads(embedded) == embedded
    fleet = settings_of(
        redis={"url": "redis://h"},
        database={"url": "postgresql://h/d"},
        vector_store={"url": "http://h"},
        worker_pools={"embedding": {"workers": available_cores()}},
    )
    assert with_worker_threads(fleet).models.threads == 1


def test_without_names_the_models_of_the_settings_are_meant_each_once() -> None:
    settings = settings_of(
        models={"default": "static", "catalogue": {"own": {"backend": "stub"}}},
        worker_pools={"embedding": {"models": ["static", "minilm"]}},
    )
    assert configured_models(settings) == ["static", "minilm", "own"]
    assert selected_models([], settings) == configured_models(settings)
    assert selected_models(["stub", "stub"], settings) == ["stub"]
    with pytest.raises(UnknownModel, match="did you mean `static`"):
        selected_models(["stub", "statc"], settings)
