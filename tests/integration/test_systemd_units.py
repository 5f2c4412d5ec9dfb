"""The systemd units, read by systemd's own checker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from embedfleet.settings import CONFIG_ENV, Settings
from support.hangs import HANG_SECONDS

UNITS = sorted((Path(__file__).parents[2] / "deploy/systemd").glob("*.service"))
COMMAND = Path(__file__).parents[2] / "deploy/systemd/embedfleet.sh"
INSTALLED = "/opt/embedfleet/bin/embedfleet"
# Tenths: below 2.0 of 10 systemd calls it OK. What remains is the network, and files that a service may read.
MOST_EXPOSED = "20"


def systemd_analyze(folder: Path, *arguments: str) -> None:
    """Run it on copies of all units, whose program is one of this machine."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    copies = []
    for unit in UNITS:
        copies.append(folder / unit.name)
        copies[-1].write_text(unit.read_text().replace(INSTALLED, "/bin/true"))
    ran = subprocess.run(
        ["systemd-analyze", *arguments, *copies],
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr


def lines(unit: Path, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), re.MULTILINE)


def test_there_is_a_unit_for_one_server_for_the_workers_of_a_host_and_for_the_api() -> None:
    config = "--config /etc/embedfleet/embeddings_config.yaml"
    assert {unit.name: lines(unit, "ExecStart") for unit in UNITS} == {
        "embedfleet.service": [f"{INSTALLED} serve --wait {config}"],
        "embedfleet-workers.service": [f"{INSTALLED} serve-workers --wait {config}"],
        "embedfleet-api.service": [f"{INSTALLED} serve --workers none {config}"],
    }


def test_systemd_understands_them(tmp_path: Path) -> None:
    systemd_analyze(tmp_path, "verify")


def test_they_leave_a_service_little_that_it_could_do(tmp_path: Path) -> None:
    systemd_analyze(tmp_path, "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager")


def test_they_differ_in_what_they_run_only() -> None:
    """A rule that is added to one of them belongs into the others as well."""

    def rules(unit: Path) -> list[str]:
        own = ("Description=", "ExecStart=", "ExecReload=", "#")
        return [line for line in unit.read_text().splitlines() if line and not line.startswith(own)]

    first, *others = UNITS
    for other in others:
        assert rules(other) == rules(first), other.name


def test_a_command_of_a_host_is_run_with_the_settings_and_the_user_of_its_services(tmp_path: Path) -> None:
    """By what systemd would be told."""
    told = tmp_path / "systemd-run"
    told.write_text('#!/bin/sh\nfor word in "$@"; do echo "$word"; done\n')
    told.chmod(0o755)
    ran = subprocess.run(
        ["sh", COMMAND, "scale", "embedding", "6"],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=HANG_SECONDS,
        check=True,
    )
    words = ran.stdout.splitlines()
    assert words[words.index(INSTALLED) :] == [INSTALLED, "scale", "embedding", "6"]
    workers = next(unit for unit in UNITS if "workers" in unit.name)
    (secrets,), (environment,) = lines(workers, "EnvironmentFile"), lines(workers, "Environment")
    assert f"EnvironmentFile={secrets.removeprefix('-')}" in words
    assert set(environment.split()) <= set(words)
    assert words[words.index("--uid") + 1] in lines(workers, "User")
    config = lines(workers, "ExecStart")[0].split()[-1]
    assert f"{CONFIG_ENV}={config}" in words


def test_a_stop_waits_longer_than_workers_drain_and_signals_the_main_process_only() -> None:
    for unit in UNITS:
        (stop,) = lines(unit, "TimeoutStopSec")
        assert int(stop) > Settings().orchestrator.drain_seconds, unit.name
        # Worker processes that got the signal as well would end by themselves, and be started again.
        assert lines(unit, "KillMode") == ["mixed"], unit.name


def test_the_parser_may_make_the_namespaces_that_cut_it_off_from_the_network() -> None:
    for unit in UNITS:
        assert lines(unit, "RestrictNamespaces") == ["user net"], unit.name
