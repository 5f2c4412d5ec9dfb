"""What an operator types about tenants: `embedfleet tenants`, `keys`, `usage` and `audit`."""

from __future__ import annotations

import asyncio
import csv
import re

from embedfleet.bootstrap import open_guest
from embedfleet.settings import load_settings
from support.command import Command


async def submit(command: Command, tenant: str) -> None:
    async with open_guest(load_settings(environ=command.environment())) as guest:
        await guest.jobs.create_job(media_id="a", user_id=tenant, content="two words")


def test_a_key_is_shown_once_and_then_only_its_prefix(command: Command) -> None:
    made = command.typed("keys", "create", "--name", "backend", "--scope", "read", "--days", "7")
    assert (made.code, made.stdout.count("\n"), made.stderr.count("\n")) == (0, 1, 1)
    found = re.fullmatch(r"ef_([a-z0-9]{10})_[A-Za-z0-9]{32}\n", made.stdout)
    assert found is not None
    prefix = found[1]
    listed = command.typed("keys", "list").stdout
    assert prefix in listed
    assert made.stdout.strip()[14:] not in listed
    new = command.typed("keys", "rotate", prefix, "--overlap-hours", "0", "--json").document["new_key"]
    assert (new["info"]["name"], new["info"]["scopes"], new["info"]["state"]) == (
        "backend",
        ["read"],
        "active",
    )
    states = {one["prefix"]: one["state"] for one in command.typed("keys", "list", "--json").document["keys"]}
    assert states == {prefix: "expired", new["info"]["prefix"]: "active"}
    assert "is revoked" in command.typed("keys", "revoke", new["info"]["prefix"]).stdout
    unknown = command.typed("keys", "revoke", "nothing")
    assert (unknown.code, "`embedfleet keys list`" in unknown.stderr) == (1, True)
    log = command.typed("audit", "--json").document["audit"]
    assert [one["action"] for one in log] == ["key.revoke", "key.rotate", "key.create"]


def test_the_first_operator_key_is_of_no_tenant(command: Command) -> None:
    made = command.typed("keys", "create", "--operator", "--json").document["new_key"]["info"]
    assert (made["tenant_id"], made["scopes"]) == (None, ["operator"])
    assert command.typed("keys", "create", "--operator", "--tenant", "a").code == 2


def test_a_tenant_is_set_up_and_shown(command: Command) -> None:
    changed = command.typed(
        "tenants", "set", "alice", "--tier", "free", "--limit-of", "daily_tokens=5", "--json"
    ).document["tenant"]
    assert (changed["tier"], changed["own_limits"]) == ("free", {"daily_tokens": 5})
    shown = command.typed("tenants", "show", "alice").stdout
    assert re.search(r"daily_tokens +5 +its own", shown)
    assert re.search(r"daily_bytes +no limit", shown)
    assert re.search(r"alice +free +0 +0 +daily_tokens=5", command.typed("tenants", "list").stdout)
    for wrong in (("tenants", "set", "a"), ("tenants", "set", "a", "--limit-of", "weight")):
        assert command.typed(*wrong).code == 2
    refused = command.typed("tenants", "set", "alice", "--limit-of", "daily=5")
    assert (refused.code, "no limit `daily`" in refused.stderr) == (1, True)


def test_usage_is_a_table_json_or_csv(command: Command) -> None:
    asyncio.run(submit(command, "=1+1"))
    line = command.typed("usage", "--json").document["usage"][0]
    assert (line["tenant_id"], line["tokens"], line["jobs"], line["cost"]) == ("=1+1", 2, 1, None)
    table = command.typed("usage").stdout.splitlines()
    assert [row.split()[0] for row in table] == ["day", line["day"], "total"]
    rows = list(csv.DictReader(command.typed("usage", "--csv", "--from", line["day"]).stdout.splitlines()))
    assert [(row["tenant_id"], row["tokens"], row["cost"]) for row in rows] == [("'=1+1", "2", "")]
    assert command.typed("usage", "--tenant", "other", "--json").document["usage"] == []
    assert command.typed("usage", "--csv", "--json").code == 2
