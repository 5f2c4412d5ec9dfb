"""A Ray cluster of this machine: a head without cores, and nodes that a test adds and removes.

It listens on the loopback address only, and everyone in it needs its token. Ray reads the variables below
when it is imported, so they are set when this module is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.import_path import import_path

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # else Ray turns 127.0.0.1 into the machine's address
os.environ["RAY_AUTH_MODE"] = "token"
os.environ["RAY_AUTH_TOKEN"] = "a-token-of-the-tests-for-their-own-clusters"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Ray waits a minute for a head that is gone; tests need not.
os.environ["RAY_gcs_rpc_server_reconnect_timeout_s"] = "5"  # noqa: SIM112 - Ray's own spelling

_SOURCE = Path(__file__).parents[2] / "src"
_LOOPBACK = {"node_ip_address": "127.0.0.1", "include_dashboard": False}
_RUNS_ON = re.compile(r"worker (\S+) runs on \S+ \((\w{8})\), pid (\d+)")


class RayCluster:
    """Started with its head only. `add_node` gives it room for workers."""

    def __init__(self, port: int | None = None, **head: Any) -> None:
        from ray._common.utils import get_default_ray_temp_dir
        from ray.cluster_utils import Cluster

        # Ray notes the newest cluster in this folder, and makes only the folder of the cluster itself.
        os.makedirs(get_default_ray_temp_dir(), exist_ok=True)
        # The path of a socket has a hundred characters at most, so this is not a folder of the test.
        self.folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._import_path = os.environ.get("PYTHONPATH")  # of this process; nodes find this checkout
        os.environ["PYTHONPATH"] = import_path(_SOURCE)
        given = {"gcs_server_port": port} if port is not None else {}
        with _starting_processes():
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={"num_cpus": 0, "temp_dir": self.folder, **_LOOPBACK, **given, **head},
                shutdown_at_exit=True,
            )

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    @property
    def head_pid(self) -> int:
        """The process that keeps the tables of the cluster."""
        from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER

        [head] = self._cluster.head_node.all_processes[PROCESS_TYPE_GCS_SERVER]
        return int(head.process.pid)

    def add_node(self, **given: Any) -> Any:
        with _starting_processes():
            return self._cluster.add_node(**{"num_cpus": 2, **_LOOPBACK, **given})

    def lose(self, node: Any) -> None:
        """All processes of the node are killed at once."""
        self._cluster.remove_node(node, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._import_path is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = self._import_path

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@contextmanager
def _starting_processes() -> Iterator[None]:
    """Ray forks, and executes another program at once. In a process that has opened a table of LanceDB, the
    library of that store warns of every fork."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="lance is not fork-safe")
        yield


def runs_on(log: str) -> dict[str, tuple[str, int]]:
    """By worker, the node and the process where it was started last, as the log of an orchestrator says."""
    return {worker: (node, int(pid)) for worker, node, pid in _RUNS_ON.findall(log)}
