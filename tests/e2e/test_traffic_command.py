"""What an operator types to move the traffic: `embedfleet traffic`."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

import pytest

from embedfleet.traffic.administration import TrafficAdministration
from embedfleet.traffic.schemas import TrafficStatus
from support.command import Command, finish


def test_lists_are_changed_name_by_name_and_a_percentage_alone_leaves_them(command: Command) -> None:
    first = command.typed(
        "traffic", "set", "2.5", "--allow-tenant", "a", "--allow-tenant", "b", "--deny-tenant", "c", "--json"
    ).document["state"]
    assert (first["percent"], first["allow_tenants"], first["deny_tenants"]) == (2.5, ["a", "b"], ["c"])
    moved = command.typed(
        "traffic", "set", "--allow-tenant", "c", "--forget-tenant", "a", "--deny-type", "pdf"
    )
    assert moved.stdout == (
        "to the fleet 2.5% of the tenants\nallowed      tenants b, c\ndenied       types pdf\n"
    )
    last = command.typed("traffic", "set", "30%", "--sticky-by", "document", "--json").document["state"]
    assert (last["percent"], last["sticky_by"], last["allow_tenants"]) == (30.0, "document", ["b", "c"])


def test_what_says_nothing_or_two_things_is_wrong_usage(command: Command) -> None:
    for words, told in (
        ("set", "give a percentage or an option"),
        ("set --allow-tenant a --forget-tenant a", "`a` is in two of"),
        ("set 101", "from 0 to 100"),
        ("plan 1,x", "from 0 to 100"),
        ("plan 1 --hold 30", "such as 90s, 30m"),
        ("plan 1 --max-error-rate 1", "such as 1%"),
        ("retire --held week", "such as 90s, 30m"),
    ):
        wrong = command.typed("traffic", *words.split())
        assert (wrong.code, told in wrong.stderr) == (2, True), (words, wrong)


def test_what_another_operator_does_between_the_look_and_the_change_is_not_lost(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = TrafficAdministration.show

    async def look_and_be_overtaken(self: TrafficAdministration, **more: Any) -> TrafficStatus:
        seen = await look(self, **more)
        await self.set(deny_tenants=["theirs"])
        return seen

    with monkeypatch.context() as patch:
        patch.setattr(TrafficAdministration, "show", look_and_be_overtaken)
        overtaken = command.typed("traffic", "set", "--deny-tenant", "mine")
    assert (overtaken.code, "another change of the traffic came first" in overtaken.stderr) == (1, True)
    assert command.typed("traffic", "set", "--deny-tenant", "mine").stdout.endswith("tenants mine, theirs\n")


def test_a_plan_is_begun_paused_and_left(command: Command) -> None:
    begun = command.typed("traffic", "plan", "1,5,100", "--hold", "90s", "--max-error-rate", "0.5%")
    assert begun.stdout.splitlines()[0] == "to the fleet 1% of the tenants"
    assert re.search(r"plan +\[1%\] 5% 100%: under way", begun.stdout)
    assert re.search(r"limits +each step 1m30s at least, errors 0.5%, p99 1.5 x the old", begun.stdout)
    command.typed("traffic", "pause", "--reason", "lunch")
    status = command.typed("traffic", "status").stdout
    assert re.search(r"guard +hold: .*the plan is paused", status)
    assert re.search(r"last change +2 .* local +pause +1%: lunch", status)
    assert "no request in the last 5m" in status
    assert "no request in the last 1h" in command.typed("traffic", "status", "--window", "60m").stdout
    assert command.typed("traffic", "rollback").stdout == "to the fleet 0% of the tenants\n"
    early = command.typed("traffic", "retire")
    assert (early.code, "0% and not 100% go to the fleet" in early.stderr) == (1, True)
    assert "`embedfleet traffic status`" in early.stderr


def test_a_shadow_run_has_an_owner_a_rule_and_an_expiry_and_ends_with_a_verdict(command: Command) -> None:
    for missing in ("--owner a --requests 5", "--owner a --expires-in 1h", "--requests 5 --expires-in 1h"):
        assert command.typed("traffic", "shadow", "begin", *missing.split()).code == 2
    rule = "--owner search --requests 500 --expires-in 2d --max-mismatch-rate 0.1% --max-p99-ratio 2"
    begun = command.typed("traffic", "shadow", "begin", *rule.split())
    shadow_id = re.match(r"shadow +(\S+)\nowner +search\n", begun.stdout)
    assert shadow_id is not None, begun
    words = "500 requests; errors at most 1%, different at most 0.1% (cosine below 0.999), p99 at most 2 x"
    assert words in begun.stdout
    assert re.search(
        rf"shadow +{shadow_id[1]} of search: 0 of 500 requests", command.typed("traffic", "status").stdout
    )
    again = command.typed("traffic", "shadow", "begin", *rule.split())
    assert (again.code, "one runs at a time" in again.stderr) == (1, True)
    ended = command.typed("traffic", "shadow", "end", shadow_id[1], "--json").document["shadow"]
    assert (ended["verdict"], ended["owner"], ended["rule"]["max_mismatch_rate"]) == (
        "undecided",
        "search",
        0.001,
    )
    shown = command.typed("traffic", "shadow", "show", shadow_id[1]).stdout
    assert "verdict      undecided: it has 0 requests, and the rule asks for 500\n" in shown
    assert re.search(
        rf"{shadow_id[1]} +search +undecided +0 of 500 +0 +0 +- ",
        command.typed("traffic", "shadow", "list").stdout,
    )
    unknown = command.typed("traffic", "shadow", "show", "none")
    assert (unknown.code, "`embedfleet traffic shadow list`" in unknown.stderr) == (1, True)


def test_changes_are_followed_as_they_happen(command: Command) -> None:
    command.typed("traffic", "set", "1")
    process = command.start("traffic", "history", "--follow", "--json")
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["change_id"] == 1
        command.typed("traffic", "set", "2", "--reason", "more")
        told = json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    assert (told["change_id"], told["reason"], told["state"]["percent"]) == (2, "more", 2.0)
    assert ended.code == 130
    shown = command.typed("traffic", "history").stdout.splitlines()
    assert [re.split(r" {2}", line)[0] for line in shown] == ["2", "1"]
