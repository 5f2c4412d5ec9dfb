"""A client with the API key of a tenant: it sees its tenant, however it asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope
from embedfleet.client import AsyncClient
from embedfleet.errors import Forbidden, Unauthenticated
from support.api import serving
from support.system import make_settings


async def test_a_tenants_key_reaches_its_tenant_only(tmp_path: Path) -> None:
    async with serving(make_settings(tmp_path)) as served:
        parts = served.parts
        door = OperatorAdministration(parts.database, parts.clock, parts.settings, actor="local")
        made = await door.of("alice").create_key(KeyRequest(scopes=frozenset({Scope.READ, Scope.WRITE})))
        await served.running.submit("hers", "Pumps move water.", user_id="alice")
        await served.running.submit("his", "Pumps move oil.", user_id="bob")
        async with AsyncClient(served.url, api_key=made.key) as alice:
            assert (await alice.me()).tenant_id == "alice"
            for one in (alice, alice.of("alice"), alice.of_all_tenants()):
                assert [job.media_id for job in await one.list_jobs()] == ["hers"]
            with pytest.raises(Forbidden, match="acts for another tenant"):
                await alice.of("bob").list_jobs()
            with pytest.raises(Forbidden, match="lacks the scope"):
                await alice.orchestrators()
        async with AsyncClient(served.url) as stranger:
            with pytest.raises(Unauthenticated):
                await stranger.list_jobs()
