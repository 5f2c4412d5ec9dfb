"""Nothing leaves the machine unasked. Real processes run under strace, where no route leads out."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from embedfleet.quiet import SWITCHES
from support.command import Command
from support.import_path import import_path
from support.network_trace import run_traced, tried_outside

# What a user may have set. Each value would let a library report.
REPORTS_WANTED = {
    "ORT_DISABLE_TELEMETRY": "0",
    "HF_HUB_DISABLE_TELEMETRY": "0",
    "ANONYMIZED_TELEMETRY": "True",
    "DO_NOT_TRACK": "0",
}
INGEST_AND_SEARCH = """
import os, subprocess, sys
command = [sys.executable, "-m", "embedfleet"]
subprocess.run([*command, "ingest", sys.argv[1]], check=True)
subprocess.run([*command, "search", "which animal sat on the mat", "--json"], check=True)
"""


def private_environment(command: Command) -> dict[str, str]:
    """The command's, with a home that is empty, and reports wanted."""
    home = command.folder / "home"
    home.mkdir(exist_ok=True)
    mine = command.environment(REPORTS_WANTED)
    return mine | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        # Optimised graphs that other tests have kept, and one known figure instead of seconds of measuring.
        "EMBEDFLEET_MODELS__CACHE_DIR": str(Path(os.environ["XDG_CACHE_HOME"]) / "embedfleet"),
        "EMBEDFLEET_MODELS__MICROBATCH_TOKENS": "2048",
    }


def files_at_home(command: Command) -> list[str]:
    home = command.folder / "home"
    return sorted(str(file.relative_to(home)) for file in home.rglob("*") if file.is_file())


def test_the_default_system_opens_no_internet_socket_and_leaves_no_id(tmp_path: Path, corpus: Path) -> None:
    command = Command(tmp_path, model="minilm")
    environment = private_environment(command)
    done = run_traced([sys.executable, "-c", INGEST_AND_SEARCH, str(corpus)], tmp_path, environment)
    assert done.code == 0, done.stderr
    assert "The cat sat on the mat." in done.stdout
    assert (done.tried_outside, done.internet_sockets) == ([], 0)
    assert files_at_home(command) == []


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["embedded", "fleet"])
def test_no_backend_and_no_store_tries_an_address_of_its_own(
    scene: str, tmp_path: Path, minilm_folder: Path
) -> None:
    """The fleet lives longer than onnxruntime takes to send its first report."""
    command = Command(tmp_path)
    path = import_path(Path(__file__).parents[1])
    environment = {
        name: value
        for name, value in (private_environment(command) | {"PYTHONPATH": path}).items()
        if not name.startswith("EMBEDFLEET_")
    }
    program = [sys.executable, "-m", "support.private_scenes", scene, str(tmp_path), str(minilm_folder)]
    done = run_traced(program, tmp_path, environment)
    assert done.stdout.endswith("done\n"), done.stderr
    assert done.internet_sockets > 0, "the trace saw nothing: the remote model is asked on the loopback"
    assert done.tried_outside == []
    assert files_at_home(command) == []


def test_a_process_that_tries_to_send_is_caught(tmp_path: Path) -> None:
    """Both by address and by name. The trace follows children."""
    program = """
import socket, subprocess, sys
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect_ex(("127.0.0.1", 9))
socket.socket(socket.AF_INET, socket.SOCK_STREAM).connect_ex(("203.0.113.7", 443))
subprocess.run([sys.executable, "-c", "import socket\\nsocket.socket(socket.AF_INET6, "
                "socket.SOCK_DGRAM).connect_ex(('2001:db8::1', 53))"])
"""
    done = run_traced([sys.executable, "-I", "-c", program], tmp_path, dict(os.environ))
    assert done.tried_outside == ["2001:db8::1 port 53", "203.0.113.7 port 443"]
    assert done.internet_sockets == 3


@pytest.mark.parametrize(
    ("line", "tried"),
    [
        ('sendmsg(8, {msg_name={sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}',
         ["127.0.0.53 port 53"]),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42) = 0',
         ["/run/systemd/resolve/io.systemd.Resolve"]),
        ('connect(3, {sa_family=AF_UNIX, sun_path="/tmp/redis-1/s"}, 110) = 0', []),
        ('connect(3, {sa_family=AF_INET6, sin6_port=htons(80), sin6_flowinfo=htonl(0), '
         'inet_pton(AF_INET6, "::ffff:127.0.0.1", &sin6_addr), sin6_scope_id=0}, 28) = 0', []),
    ],
)  # fmt: skip
def test_a_name_server_on_this_machine_is_outside(line: str, tried: list[str]) -> None:
    assert list(tried_outside(line)) == tried


def test_the_package_switches_off_every_report_before_any_library_is_imported() -> None:
    """The test's own process has imported the package, so its children inherit the switches as well."""
    assert {name: os.environ.get(name) for name in SWITCHES} == dict(SWITCHES)
    assert set(REPORTS_WANTED) == set(SWITCHES)
