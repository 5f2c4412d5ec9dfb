"""Whatever befalls the documents of a tenant that is switched to another model, none is lost or mixed up."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from embedfleet.errors import InvalidRequest
from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle import retrying
from embedfleet.lifecycle.admission import Admission
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
    steps(["lead", "look", "open"]),
    steps(["lead", "serve", "retire", "begin", "delete", "retry", "retry", "force"]),
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Admission, Catalogue]:
    return system_of(tmp_path_factory.mktemp("rules"))


CHANGED = Step("submit", text=TEXTS[1])
TWIN_FIRST = Step("completed", which=1)


@settings(
    max_examples=examples(80),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(before=[], story=[CHANGED, TWIN_FIRST, Step("cancelled")])
@example(before=[], story=[CHANGED, Step("given up"), Step("retry"), TWIN_FIRST, Step("completed")])
@example(
    before=[], story=[CHANGED, Step("given up"), Step("wait"), Step("retry"), Step("completed", which=1)]
)
@example(before=[], story=[CHANGED, Step("completed"), Step("retire"), Step("lead"), Step("completed")])
@example(
    before=[],
    story=[
        CHANGED,
        Step("serve", percent=0.0),
        Step("retire"),
        Step("cancelled", which=1),
        Step("completed"),
        Step("lead"),
    ],
)
@example(before=[*A_SWITCH[:4], CHANGED, Step("given up")], story=[])
@example(before=[*A_SWITCH[:3], CHANGED, Step("lead"), Step("completed", which=1)], story=[])
@example(before=[], story=[Step("submit", media="2"), Step("given up", media="2", which=1)])
@example(before=[Step("submit", media="2")], story=[Step("completed", media="2"), Step("retire")])
@given(before=st.lists(steps(["submit", *ENDS]), max_size=4), story=st.lists(a_step, max_size=14))
def test_what_readers_see_is_what_was_made(
    engine: Engine, system: tuple[Admission, Catalogue], before: list[Step], story: list[Step]
) -> None:
    world = new_world(engine, system)
    for step in [*before, *A_SWITCH, *story]:
        world.take(step)
        world.check()
    world.run_to_the_end()


def test_a_job_of_a_space_that_is_emptied_is_not_tried_again(
    engine: Engine, system: tuple[Admission, Catalogue]
) -> None:
    world = new_world(engine, system)
    failing = [Step("submit", media="2"), Step("failed", media="2")]
    for step in [*failing, *A_SWITCH, Step("retire")]:
        world.take(step)

    def retry(conn: Connection) -> None:
        job = world.job(conn, Step("retry", media="2"), ended=True)
        assert job is not None
        retrying.retry(conn, job, 1.0)

    with pytest.raises(InvalidRequest, match="is being emptied"):
        world.unit(retry)


def test_a_twin_is_tried_again_only_beside_what_readers_see(
    engine: Engine, system: tuple[Admission, Catalogue]
) -> None:
    world = new_world(engine, system)
    for step in [*A_SWITCH, CHANGED, Step("cancelled")]:
        world.take(step)

    def retry(conn: Connection) -> None:
        twin = world.job(conn, Step("retry", which=1), ended=True)
        assert twin is not None
        assert twin.switch_id is not None
        retrying.retry(conn, twin, 1.0)

    with pytest.raises(InvalidRequest, match="try the submitted job"):
        world.unit(retry)
