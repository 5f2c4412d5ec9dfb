"""A store before another one answers nothing by itself."""

from __future__ import annotations

from embedfleet.vectors.passing import PassingStore
from embedfleet.vectors.port import VectorStore


def test_every_method_of_the_port_is_passed_on_also_one_with_an_answer_of_its_own() -> None:
    of_the_port = {name for name in vars(VectorStore) if not name.startswith("_")}
    assert of_the_port - vars(PassingStore).keys() == set()
