"""Whatever befalls the documents of a tenant that routes, while one model is filled for all of them.

A search of the route sees each document once, as it was made last, and no copy in the filled space.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from embedfleet.inference.catalogue import Catalogue
from embedfleet.lifecycle.admission import Admission
from support.examples import examples
from support.model_switches import MODELS, NEW, OLD
from support.switch_world import ENDS, MEDIA, TEXTS, Step, new_world, system_of

THIRD = "shortest"
THREE = MODELS | {"catalogue": MODELS["catalogue"] | {THIRD: {"backend": "static", "dimensions": 64}}}


def steps(what: Sequence[str]) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        what=st.sampled_from(what),
        media=st.sampled_from(MEDIA),
        text=st.sampled_from(TEXTS),
        which=st.integers(0, 2),
        percent=st.sampled_from([0.0, 40.0, 100.0]),
        model=st.sampled_from([OLD, NEW, THIRD]),
    )


a_step = st.one_of(
    steps(["submit"]),
    steps(["completed", "completed", *ENDS]),
    steps(["lead"]),
    steps(["lead", "serve", "retire", "leave route", "try", "promote", "free", "delete", "retry", "force"]),
)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Admission, Catalogue]:
    return system_of(tmp_path_factory.mktemp("rules"), THREE)


# One document in a space of the route, and one that only the filled space has.
DOCUMENTS = [
    Step("submit", model=OLD),
    Step("completed"),
    Step("submit", media="2", model=NEW),
    Step("completed", media="2"),
]
MOVED = Step("submit", text=TEXTS[1], model=NEW)
FILLED = [Step("lead"), Step("completed"), Step("lead"), Step("lead")]


@settings(
    max_examples=examples(120),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(how="try", story=[*FILLED, Step("promote"), Step("lead"), Step("lead"), Step("serve", percent=0.0)])
@example(how="try", story=[*FILLED, Step("free"), Step("lead"), Step("lead")])
# A document of the route goes on in its space, though the filled one was chosen for its new version.
@example(how="try", story=[Step("submit", text=TEXTS[1], model=NEW), Step("completed"), Step("free")])
# It moves to another space of the route, and out of the filled one.
@example(how="try", story=[*FILLED, Step("submit", text=TEXTS[1], model=THIRD), Step("completed")])
@example(how="try", story=[Step("submit", media="2", model=OLD), Step("completed", media="2"), Step("free")])
@example(
    how="leave route",
    story=[*FILLED, Step("submit", text=TEXTS[1], model=OLD), Step("completed"), Step("serve", percent=0.0)],
)
@example(how="leave route", story=[*FILLED, Step("retire"), Step("lead"), Step("lead")])
# A job that failed is tried again after an older version was copied into the space that is being emptied.
@example(how="try", story=[MOVED, Step("failed"), Step("lead"), Step("retire"), Step("retry")])
@given(how=st.sampled_from(["try", "leave route"]), story=st.lists(a_step, max_size=14))
def test_the_route_shows_each_document_once(
    engine: Engine, system: tuple[Admission, Catalogue], how: str, story: list[Step]
) -> None:
    world = new_world(engine, system, searches=True)
    for step in [*DOCUMENTS, Step(how), *story]:
        world.take(step)
        world.check()
    world.run_to_the_end()


@settings(
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# A document moves into the space that is to be filled: the comparison waits until it is there.
@example(before=[*DOCUMENTS[:2], MOVED], story=[Step("completed")])
# What moves only when it is tried again would stand beside its version of the route.
@example(before=[*DOCUMENTS[:2], MOVED, Step("given up")], story=[Step("retry"), Step("completed", which=1)])
@given(
    before=st.lists(st.one_of(steps(["submit"]), steps([*ENDS, "completed", "retry", "delete"])), max_size=8),
    story=st.lists(a_step, max_size=8),
)
def test_it_is_so_whatever_was_under_way_before(
    engine: Engine, system: tuple[Admission, Catalogue], before: list[Step], story: list[Step]
) -> None:
    world = new_world(engine, system)
    for step in [*before, Step("try"), *story]:
        world.take(step)
        world.check()
    world.run_to_the_end()
