"""Redis as it runs in production, small: a cluster of three, and a primary with its replica and sentinel."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from support.hangs import eventually
from support.redis_server import RedisServer, free_ports

_SLOTS = 16_384


class RedisClusterServers:
    """Three primaries, each with a third of the slots."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            self.nodes = [
                stack.enter_context(
                    RedisServer("--cluster-enabled", "yes", "--cluster-node-timeout", "2000", port=port)
                )
                for port in free_ports(3)
            ]
            self._join()
            self._exit = stack.pop_all()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                slots = range(_SLOTS * number // 3, _SLOTS * (number + 1) // 3)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        eventually(lambda: all(map(_is_whole, self.nodes)))


def _is_whole(node: RedisServer) -> bool:
    with node.client() as client:
        info = client.execute_command("CLUSTER INFO")
    state = {str(key): str(value) for key, value in info.items()}
    return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3"


class RedisSentinelServers:
    """A primary, its replica and one sentinel that makes the replica primary when the primary is gone."""

    def __init__(self) -> None:
        with ExitStack() as stack:
            first, second, watch = free_ports(3)
            # By itself it waits five seconds for further replicas before it sends the first its data.
            self.primary = stack.enter_context(RedisServer("--repl-diskless-sync-delay", "0", port=first))
            self.replica = stack.enter_context(
                RedisServer("--replicaof", "127.0.0.1", str(first), port=second)
            )
            eventually(self._replica_follows)
            self._sentinel = stack.enter_context(
                RedisServer(
                    "--sentinel",
                    port=watch,
                    config=(
                        f"sentinel monitor main 127.0.0.1 {first} 1\n"
                        "sentinel down-after-milliseconds main 200\n"
                        "sentinel failover-timeout main 1000\n"
                    ),
                )
            )
            eventually(self._sentinel_knows_replica)
            self._exit = stack.pop_all()

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self._sentinel.port}/main"

    def replicate(self) -> None:
        """Until the replica has all that the primary has now. `WAIT` would only speak of its own client's."""
        with self.primary.client() as client:
            written = int(client.info("replication")["master_repl_offset"])
        eventually(lambda: self._replicated() >= written)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def _replicated(self) -> int:
        with self.replica.client() as client:
            return int(client.info("replication")["slave_repl_offset"])

    def _replica_follows(self) -> bool:
        with self.replica.client() as client:
            return bool(client.info("replication")["master_link_status"] == "up")

    def _sentinel_knows_replica(self) -> bool:
        with self._sentinel.client() as client:
            return bool(client.sentinel_master("main")["num-slaves"] == 1)
