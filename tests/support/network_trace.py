"""Runs a command where no route leads out, and tells which addresses it tried: it and all its children."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from support import no_route
from support.hangs import HANG_SECONDS

_DNS = 53
# Services of this machine that look up a name for every process that asks on their socket.
_RESOLVERS = re.compile(r'sun_path="([^"]*(?:systemd/resolve|avahi)[^"]*)"')
_IPV4 = re.compile(r'sin_port=htons\((\d+)\), sin_addr=inet_addr\("([^"]+)"\)')
_IPV6 = re.compile(r'sin6_port=htons\((\d+)\).*?inet_pton\(AF_INET6, "([^"]+)"')
_SOCKET = re.compile(r"socket\((AF_INET6?), ")


@dataclass(frozen=True, slots=True)
class Traced:
    """How the command ended, and what its processes did to the network."""

    code: int
    stdout: str
    stderr: str
    tried_outside: Sequence[str]
    """Addresses of other machines, and look-ups in DNS, that a process tried."""
    internet_sockets: int
    """How many it opened, for this machine or another."""


def run_traced(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Traced:
    """Run the command to its end, with its trace in `folder`.

    Where the system has no strace or lets it trace nothing, the test is skipped, and says so: no package of
    ours can bring it. Where it gives no network namespace, the command runs in the network that there is: the
    trace tells the same.
    """
    if shutil.which("strace") is None:
        pytest.skip("no strace: install it")
    log = folder / "network.strace"
    trace = ["strace", "-f", "--seccomp-bpf", "-qq", "-e", "signal=none", "-o", str(log)]
    trace += ["-e", "trace=socket,connect,sendto,sendmsg,sendmmsg", *command]
    done = _run([sys.executable, no_route.__file__, *trace], folder, env)
    if done.returncode == no_route.REFUSED:
        done = _run(trace, folder, env)
    if not log.exists() or "ptrace" in done.stderr:
        pytest.skip(f"strace cannot trace here: {done.stderr}")
    lines = log.read_text(errors="replace").splitlines()
    sockets = sum(_SOCKET.search(line) is not None for line in lines)
    tried = sorted({address for line in lines for address in tried_outside(line)})
    return Traced(done.returncode, done.stdout, done.stderr, tried, sockets)


def tried_outside(line: str) -> Iterator[str]:
    """The addresses in a line of strace that are not this machine's, or that are those of a name server."""
    for port, address in [*_IPV4.findall(line), *_IPV6.findall(line)]:
        known = ip_address(address)
        known = getattr(known, "ipv4_mapped", None) or known
        is_here = known.is_loopback or known.is_unspecified
        if int(port) == _DNS or not is_here:
            yield f"{address} port {port}"
    yield from _RESOLVERS.findall(line)


def _run(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * HANG_SECONDS,
        check=False,
    )
