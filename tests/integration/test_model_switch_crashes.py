"""SIGKILL anywhere in a switch to another model: no answer is mixed or lacks a document, nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from functools import partial
from pathlib import Path
from time import time

import pytest

from embedfleet.bootstrap import open_guest
from embedfleet.model_switching import orders
from embedfleet.settings import Settings
from embedfleet.sql.database import Database
from embedfleet.sql.states import SwitchPhase
from support.hangs import HANG_SECONDS
from support.model_switches import NEW, begin, document, switch_of
from support.switch_process import (
    FROM_ROUTE,
    ORDERED,
    POINTS,
    POINTS_FROM_ROUTE,
    POINTS_THERE_AND_BACK,
    REFUSED,
    SOME,
    home_of,
    settings_in,
)
from support.system import TENANT, running

TESTS = Path(__file__).parents[1]


async def start(folder: Path, story: str, point: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.switch_process", str(folder), story, point),
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )


async def retire_when_it_serves(database: Database) -> None:
    """The operator goes there and back, and then retires the old space."""

    async def serves() -> bool | None:
        return (await switch_of(database)).phase is not SwitchPhase.CHECKING or None

    while (await switch_of(database)).phase is not SwitchPhase.SERVING:
        await database.until(serves)
        await asyncio.sleep(0.05)
    for percent in (0.0, 40.0, 100.0):
        await database.write(partial(orders.serve, tenant=TENANT, percent=percent, now=time()))
    await database.write(partial(orders.retire, tenant=TENANT, now=time()))


async def begin_with_some(settings: Settings) -> None:
    async with running(settings) as fleet:
        for job_id in [await fleet.submit(**document(number)) for number in range(SOME)]:
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
        await begin(fleet)


async def live_and_die(folder: Path, story: str, points: tuple[str, ...]) -> None:
    """A process dies at each point in turn, and a last one comes to the end."""
    for point in (*points, ""):
        process = await start(folder, story, point)
        _, told = await asyncio.wait_for(process.communicate(), HANG_SECONDS)
        ended = 0 if not point else -signal.SIGKILL
        assert process.returncode == ended, (point, told.decode())


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(("within _settle",), id="one point"),
        pytest.param(POINTS, id="every point", marks=pytest.mark.slow),
    ],
)
async def test_a_kill_at_any_point_of_a_switch_loses_and_mixes_nothing(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    settings = settings_in(tmp_path)
    await begin_with_some(settings)
    async with open_guest(settings) as guest, asyncio.TaskGroup() as tasks:
        tasks.create_task(retire_when_it_serves(guest.database))
        await live_and_die(tmp_path, ORDERED, points)


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(("within rollback",), id="one point"),
        pytest.param(POINTS_THERE_AND_BACK, id="every point", marks=pytest.mark.slow),
    ],
)
async def test_a_kill_on_the_way_there_and_back_loses_and_mixes_nothing(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    """The gate refuses the model, is passed by force, and the operator rolls back and gives it up."""
    settings = settings_in(tmp_path)
    await begin_with_some(settings)
    await live_and_die(tmp_path, REFUSED, points)
    async with open_guest(settings) as guest:
        ended = await switch_of(guest.database)
        assert (ended.phase, ended.percent, ended.forced) == (SwitchPhase.ENDED, 0.0, True)
        assert ended.findings["receipt"]["model"] == NEW
        assert ended.findings["receipt"]["vectors_left"] == 0


@pytest.mark.parametrize(
    "points",
    [
        pytest.param(("after promote",), id="one point", marks=pytest.mark.slow),
        pytest.param(POINTS_FROM_ROUTE, id="every point", marks=pytest.mark.slow),
    ],
)
async def test_a_kill_while_a_model_is_promoted_against_the_route_loses_and_mixes_nothing(
    tmp_path: Path, points: tuple[str, ...]
) -> None:
    """From the comparison to the end of the switch, which ends the route."""
    settings = settings_in(tmp_path)
    async with running(settings) as fleet:
        for number in range(SOME):
            fields = document(number)
            job_id = await fleet.submit(**fields, model=home_of(fields["media_id"]))
            await fleet.jobs.wait(job_id, timeout_seconds=HANG_SECONDS)
    await live_and_die(tmp_path, FROM_ROUTE, points)
    async with open_guest(settings) as guest:
        ended = await switch_of(guest.database)
        assert (ended.phase, ended.percent, ended.is_trial) == (SwitchPhase.ENDED, 100.0, False)
        assert ended.findings["receipt"]["vectors_left"] == 0
