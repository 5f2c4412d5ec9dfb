"""A fleet on Redis, PostgreSQL and a Chroma server switches a tenant, while its processes are killed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import time
from typing import Any

import pytest

from embedfleet.bootstrap import GuestSystem
from embedfleet.clock import SystemClock
from embedfleet.experiments.administration import ExperimentAdministration
from embedfleet.inference.catalogue import Catalogue
from embedfleet.model_switching import orders
from embedfleet.queue_schemas import Stage
from embedfleet.records import experiments, model_switches
from embedfleet.records.arms import ROUTE
from embedfleet.searching.search import SearchRequest
from embedfleet.sql.states import SwitchPhase
from support.chroma_server import ChromaServer
from support.experiments import wanted as wanted_experiment
from support.fleet import Fleet, ended, fleet_on, tenant
from support.model_switches import MODEL_OF, NEW, OLD, THREE, document, switch_of
from support.redis_server import RedisServer
from support.system import until

SOME = 60


@pytest.fixture
def fleet(tmp_path: Path, redis_server: RedisServer, postgres_url: str, chroma_server: ChromaServer) -> Fleet:
    fleet = fleet_on(tmp_path, redis_server.url, postgres_url, chroma_server.url)
    switching = {"gate": {"max_latency_ratio": 1000}}  # the machine of a test is not timed
    asking = {"pilot_questions": 10, "questions_per_step": 60}
    changes = {"models": THREE, "model_switching": switching, "experiments": asking}
    return Fleet(fleet.folder, {**fleet.config, **changes})


@pytest.mark.slow
async def test_a_killed_worker_and_a_killed_leader_do_not_stop_a_switch(fleet: Fleet) -> None:
    alice = tenant(fleet, "alice")
    async with fleet.guest() as guest:
        with fleet.orchestrator() as first:
            given: list[dict[str, Any]] = [{**document(number)} for number in range(SOME)]
            await ended(guest, [await guest.jobs.create_job(user_id=alice, **one) for one in given])
            info = Catalogue(fleet.settings.models).info(NEW)
            wanted = orders.Wanted(info, most_jobs=8)
            await guest.database.write(partial(orders.begin, names=[alice], wanted=wanted, now=time()))
            await until(partial(some_are_copied, guest, alice), guest.database)
            first.workers(Stage.EMBEDDING)[0].kill()
            await until(partial(some_are_copied, guest, alice, at_least=SOME // 2), guest.database)
            first.stop(signal.SIGKILL)
        with fleet.orchestrator():
            await in_phase(guest, alice, SwitchPhase.SERVING)
            assert await answer(guest, alice) == (NEW, SOME)
            await order(guest, orders.rollback, tenant=alice, now=time())
            assert await answer(guest, alice) == (OLD, SOME)
            await order(guest, orders.serve, tenant=alice, percent=100.0, now=time())
            await order(guest, orders.retire, tenant=alice, now=time())
            await in_phase(guest, alice, SwitchPhase.ENDED)
            assert await answer(guest, alice) == (NEW, SOME)
            await guest.jobs.of_all_tenants().wait_for_cleanups()
            (await fleet.ledger(guest)).assert_exact()


@pytest.mark.slow
async def test_killed_workers_and_leaders_do_not_stop_the_promotion_of_a_model_against_the_route(
    fleet: Fleet,
) -> None:
    """Two orchestrators from the beginning: whichever leads is killed, in the comparison and after it."""
    alice = tenant(fleet, "alice")
    async with fleet.guest() as guest:
        door = ExperimentAdministration(
            guest.database, SystemClock(), Catalogue(fleet.settings.models), fleet.settings, actor="op"
        )
        with fleet.orchestrator() as first, fleet.orchestrator() as second:
            given: list[dict[str, Any]] = [
                {"model": MODEL_OF[number % 3], **document(number)} for number in range(SOME)
            ]
            job_ids = [await guest.jobs.create_job(user_id=alice, **one) for one in given]
            await ended(guest, job_ids)
            begun = await door.begin(wanted_experiment(tenant=alice, model_a=ROUTE, keep=True))
            await until(partial(some_are_copied, guest, alice, at_least=SOME // 3 + 1), guest.database)
            first.workers(Stage.EMBEDDING)[0].kill()
            second.stop(signal.SIGKILL)
            await until(partial(is_over, guest, begun.experiment_id), guest.database)
            assert models_of(await answers(guest, alice)) == set(MODEL_OF)
            await door.promote(begun.experiment_id)
            first.stop(signal.SIGKILL)
        with fleet.orchestrator(), fleet.orchestrator() as third:
            await in_phase(guest, alice, SwitchPhase.SERVING)
            assert await answer(guest, alice) == (NEW, SOME)
            await order(guest, orders.rollback, tenant=alice, now=time())
            found = await answers(guest, alice)
            assert (models_of(found), len(found)) == (set(MODEL_OF), SOME)
            await order(guest, orders.serve, tenant=alice, percent=100.0, now=time())
            await order(guest, orders.retire, tenant=alice, now=time())
            third.stop(signal.SIGKILL)
            await in_phase(guest, alice, SwitchPhase.ENDED)
            assert await answer(guest, alice) == (NEW, SOME)
            await guest.jobs.of_all_tenants().wait_for_cleanups()
            (await fleet.ledger(guest)).assert_exact()


async def is_over(guest: GuestSystem, experiment_id: str) -> bool:
    found = await guest.database.read(partial(experiments.get, experiment_id=experiment_id))
    assert found is not None
    return not found.running


async def some_are_copied(guest: GuestSystem, owner: str, *, at_least: int = 1) -> bool:
    switch = await switch_of(guest.database, owner)
    return (await guest.database.read(partial(model_switches.counts, switch=switch))).there >= at_least


async def in_phase(guest: GuestSystem, owner: str, phase: SwitchPhase) -> None:
    async def reached() -> bool:
        return (await switch_of(guest.database, owner)).phase is phase

    await until(reached, guest.database)


async def order(guest: GuestSystem, what: Callable[..., Any], **given: Any) -> None:
    await guest.database.write(partial(what, **given))


async def answer(guest: GuestSystem, owner: str) -> tuple[str | None, int]:
    """The model that answers, and of how many documents."""
    found = await answers(guest, owner)
    [model] = models_of(found)
    return model, len(found)


async def answers(guest: GuestSystem, owner: str) -> dict[str, str | None]:
    """The documents that a search finds, with their models."""
    hits = await guest.search.search(owner, SearchRequest(query="boats in winter", limit=1000))
    return {hit.media_id: hit.model for hit in hits}


def models_of(found: dict[str, str | None]) -> set[str | None]:
    return set(found.values())
