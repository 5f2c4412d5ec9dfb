"""Whatever befalls the documents of a tenant that is switched to another model, none is lost or mixed up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, create_engine

from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.admission import Admission
from embedfleet.sql.schema import SCHEMA
from support.examples import examples
from support.switch_world import A_SWITCH, ENDS, MEDIA, TEXTS, Step, new_world, system_of


def steps(what: Sequence[str]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        what=st.sampled_from(what),
        media=st.sampled_from(MEDIA),
        text=st.sampled_from(TEXTS),
        which=st.integers(0, 2),
        percent=st.sampled_from([0.0, 40.0, 100.0]),
    )


a_step = st.one_of(
    steps(["submit"]),
    steps(["completed", "completed", *ENDS]),
    steps(["lead"]),
    steps(["lead", "serve", "retire", "begin", "delete", "retry", "retry", "force"]),
)


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    if database_url.startswith("sqlite"):
        engine = create_engine("sqlite://")
        SCHEMA.create_all(engine)
    else:
        engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    yield engine
    engine.dispose()


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Admission, Catalogue]:
    return system_of(tmp_path_factory.mktemp("rules"))


@settings(
    max_examples=examples(80),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(before=st.lists(steps(["submit", *ENDS]), max_size=4), story=st.lists(a_step, max_size=14))
def test_what_readers_see_is_what_was_made(
    engine: Engine, system: tuple[Admission, Catalogue], before: list[Step], story: list[Step]
) -> None:
    world = new_world(engine, system)
    for step in [*before, *A_SWITCH, *story]:
        world.take(step)
        world.check()
    world.run_to_the_end()
