"""What is tried by `models warm` is what a worker will run."""

from __future__ import annotations

import pytest

from embedfleet.cli.models_loading import as_a_worker, chosen, spoken_of
from embedfleet.errors import UnknownModel
from embedfleet.inference.catalogue import available_cores
from embedfleet.settings import Settings, load_settings


def settings_of(**overrides: object) -> Settings:
    return load_settings(environ={}, overrides=overrides)


def test_a_worker_of_a_fleet_has_its_share_of_the_cores() -> None:
    embedded = settings_of(models={"threads": 3})
    assert as_a_worker(embedded) == embedded
    fleet = settings_of(
        redis={"url": "redis://h"},
        database={"url": "postgresql://h/d"},
        vector_store={"url": "http://h"},
        worker_pools={"embedding": {"workers": available_cores()}},
    )
    assert as_a_worker(fleet).models.threads == 1


def test_without_names_the_models_of_the_settings_are_meant_each_once() -> None:
    settings = settings_of(
        models={"default": "static", "catalogue": {"own": {"backend": "stub"}}},
        worker_pools={"embedding": {"models": ["static", "minilm"]}},
    )
    assert spoken_of(settings) == ["static", "minilm", "own"]
    assert chosen([], settings) == spoken_of(settings)
    assert chosen(["stub", "stub"], settings) == ["stub"]
    with pytest.raises(UnknownModel, match="did you mean `static`"):
        chosen(["stub", "statc"], settings)
