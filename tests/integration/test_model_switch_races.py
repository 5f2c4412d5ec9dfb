"""Units of a switch to another model that meet on PostgreSQL, where units run side by side."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, text

from embedfleet.lifecycle.completion import publish_done
from embedfleet.model_switching import switcher
from embedfleet.records import model_switches
from embedfleet.sql import document_lock
from embedfleet.sql.states import SwitchPhase
from support.hangs import HANG_SECONDS
from support.switch_world import A_SWITCH, Step, World, new_world, system_of

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


ORIGINAL = 0
"""Of the unfinished jobs of a document that was just submitted: the other one is its twin."""


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> Iterator[World]:
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"), pool_size=10)
    yield new_world(engine, system_of(tmp_path))
    engine.dispose()


def until_it_waits(engine: Engine, opening: Future[Any]) -> None:
    """Return when a unit waits for a lock. Fails if the space was opened without that."""
    query = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        while not conn.execute(query).scalar_one():
            assert not opening.done(), "it has waited for nothing"


def test_the_new_space_opens_after_the_units_that_complete_jobs(world: World) -> None:
    """A unit that began before the gate completes a job without its twin. It has not ended yet."""
    for step in (Step("submit", media="2"), Step("completed", media="2"), Step("begin"), Step("submit")):
        world.take(step)
    with ThreadPoolExecutor(1) as threads, world.engine.connect() as conn:
        document_lock.begin(conn)
        job = world.job(conn, Step("completed", which=ORIGINAL), ended=False)
        assert job is not None
        world.count_as_done(conn, job)
        publish_done(conn, [job], world.clock.now())
        world.unit(
            lambda other: model_switches.enter(other, switch_in(world, other), SwitchPhase.CHECKING, 1.0)
        )
        opening = threads.submit(look_and_open, world)
        until_it_waits(world.engine, opening)
        conn.commit()
        assert opening.result(HANG_SECONDS) is False
    world.run_to_the_end()
    assert world.unit(lambda conn: switch_in(world, conn)).phase is SwitchPhase.SERVING


def look_and_open(world: World) -> bool:
    """As the leader does, in its three units."""
    world.unit(model_switches.wait_for_completions)
    looked = world.unit(lambda conn: switcher._complete_at(conn, switch_in(world, conn)))
    if looked is None:
        return False
    opened: bool = world.unit(lambda conn: switcher._open(conn, switch_in(world, conn), looked, 1.0))
    return opened


def test_a_version_that_is_shown_between_the_look_and_the_opening_is_noticed(world: World) -> None:
    """Its twin was given up meanwhile."""
    for step in (Step("submit", media="2"), Step("completed", media="2"), Step("begin"), Step("lead")):
        world.take(step)
    for step in (Step("completed", media="2"), Step("lead"), Step("look"), Step("submit")):
        world.take(step)
    assert world.looked is not None
    for step in (Step("given up", which=1), Step("completed"), Step("open")):
        world.take(step)
    assert world.unit(lambda conn: switch_in(world, conn)).phase is SwitchPhase.CHECKING


def test_a_step_of_the_leader_keeps_what_an_order_has_noted_since_it_read_the_switch(world: World) -> None:
    for step in (Step("submit"), Step("completed"), Step("begin")):
        world.take(step)
    read = world.unit(lambda conn: switch_in(world, conn))
    world.take(Step("force"))
    assert world.unit(lambda conn: model_switches.enter(conn, read, SwitchPhase.CHECKING, 1.0))
    assert world.unit(lambda conn: switch_in(world, conn)).findings["forced_by"] == "op"


def switch_in(world: World, conn: Connection) -> model_switches.ModelSwitch:
    found = world.switch(conn)
    assert found is not None
    return found


def test_units_that_meet_wait_in_no_circle_and_lose_nothing(world: World) -> None:
    """Two leaders, two workers, a client and an operator at once. A deadlock would be an error here."""
    for step in A_SWITCH:
        world.take(step)

    def act(kinds: tuple[str, ...], seed: int) -> None:
        rng = random.Random(seed)
        for number in range(40):
            world.take(
                Step(
                    rng.choice(kinds),
                    media=rng.choice("12"),
                    text=f"text {number % 3}",
                    which=rng.randrange(2),
                    percent=rng.choice([0.0, 40.0, 100.0]),
                )
            )

    parts: tuple[tuple[str, ...], ...] = (
        ("lead",),
        ("lead",),
        ("completed", "failed"),
        ("completed",),
        ("submit", "submit", "cancelled"),
        ("serve",),
    )
    with ThreadPoolExecutor(len(parts)) as threads:
        done = [threads.submit(act, kinds, seed) for seed, kinds in enumerate(parts)]
        for one in done:
            one.result(HANG_SECONDS)
    world.run_to_the_end()
