"""Comparisons of two models through HTTP: a client does what an operator beside the database does."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from embedfleet.client import AsyncClient
from embedfleet.errors import InvalidRequest, UnknownExperiment, UnknownImpression, UnknownModel
from embedfleet.experiments.administration import ExperimentAdministration
from embedfleet.experiments.schemas import PlannedExperiment
from embedfleet.records.audit import LOCAL
from embedfleet.sql.states import ExperimentPhase, QuestionSource
from support.api import Served, serving
from support.experiments import wanted
from support.model_switches import MODELS, NEW, OLD, document, settled
from support.system import TENANT, make_settings, until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    async with serving(make_settings(tmp_path_factory.mktemp("experiments"), models=MODELS)) as one:
        await one.running.ingest(**document(1))
        await one.running.ingest(**document(2))
        yield one


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(served: Served) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(served.url, tenant=TENANT) as one:
        yield one


@pytest.fixture
def here(served: Served) -> ExperimentAdministration:
    """The same comparisons, in the process of the system."""
    parts = served.parts
    return ExperimentAdministration(parts.database, parts.clock, parts.catalogue, parts.settings, actor=LOCAL)


async def test_a_client_plans_begins_sees_ends_and_promotes(
    client: AsyncClient, here: ExperimentAdministration, served: Served
) -> None:
    request = wanted(source=QuestionSource.CLICKS)
    assert _settled(await client.plan_experiment(wanted())) == _settled(await here.plan(wanted()))
    assert await client.list_experiments() == []
    begun = await client.begin_experiment(request)
    assert (begun.tenant, begun.model_a, begun.model_b, begun.owner) == (TENANT, OLD, NEW, "Ada")

    async def is_showing() -> bool:
        one = (await here.show(begun.experiment_id)).experiment
        return one.phase is ExperimentPhase.SHOWING

    await until(is_showing, served.parts.database)
    assert await client.get_experiment(begun.experiment_id) == await here.show(begun.experiment_id)
    assert await client.list_experiments() == await here.list_experiments()
    hits = await client.search("copper clocks")
    assert hits.impression_id is not None
    given = await client.feedback(hits.impression_id, [hits[0].chunk_id, 0])
    assert given.clicked == (0,)

    ended = await client.promote_experiment(begun.experiment_id)
    assert ended.reason == "its model was promoted"
    again = await client.end_experiment(begun.experiment_id)
    assert (again.reason, again.ended_at) == (ended.reason, ended.ended_at)


def _settled(planned: PlannedExperiment) -> PlannedExperiment:
    return planned.model_copy(update={"to_embed": settled(planned.to_embed)})


async def test_errors_are_those_of_our_tree(client: AsyncClient) -> None:
    with pytest.raises(UnknownModel, match="no model `none`"):
        await client.begin_experiment(wanted(model_b="none"))
    with pytest.raises(InvalidRequest, match="have one space"):
        await client.plan_experiment(wanted(model_b=OLD))
    for ask in (client.get_experiment, client.end_experiment, client.promote_experiment):
        with pytest.raises(UnknownExperiment, match="no experiment `none`"):
            await ask("none")
    with pytest.raises(UnknownImpression, match="no answer `none`"):
        await client.feedback("none", [0])
