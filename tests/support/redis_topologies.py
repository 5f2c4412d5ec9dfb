"""Redis as it runs in production, small: a cluster of three, and a primary with its replica and sentinels."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Self

from redis.exceptions import ConnectionError

from support.hangs import eventually
from support.redis_server import RedisServer, free_ports

_SLOTS = 16_384
_PRIMARIES = 3
_NODE_TIMEOUT_MS = 2_000
# By itself a primary waits five seconds for further replicas before it sends the first its data.
_NODE = ("--cluster-enabled", "yes", "--repl-diskless-sync-delay", "0")


class RedisClusterServers:
    """Three primaries, each with a third of the slots, and with `replicas` one follower of each."""

    def __init__(self, *, replicas: bool = False) -> None:
        count = 6 if replicas else 3
        with ExitStack() as stack:
            servers = [
                stack.enter_context(
                    RedisServer(*_NODE, "--cluster-node-timeout", str(_NODE_TIMEOUT_MS), port=port)
                )
                for port in free_ports(count)
            ]
            self.nodes, self.replicas = servers[:_PRIMARIES], servers[_PRIMARIES:]
            self._join()
            self._exit = stack.pop_all()

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def flush(self) -> None:
        for node in self.nodes:
            with node.client() as client:
                client.flushall()

    def holder(self, key: str) -> RedisServer:
        """The server that is the primary of this key now."""
        return next(server for server in self._servers if _serves(server, key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    @property
    def _servers(self) -> list[RedisServer]:
        return [*self.nodes, *self.replicas]

    def _join(self) -> None:
        for number, node in enumerate(self.nodes):
            with node.client() as client:
                slots = range(_SLOTS * number // _PRIMARIES, _SLOTS * (number + 1) // _PRIMARIES)
                client.execute_command("CLUSTER", "ADDSLOTS", *slots)
        for server in self._servers:
            with server.client() as client:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        eventually(lambda: all(self._is_whole(server) for server in self._servers), what="a whole cluster")
        for primary, replica in zip(self.nodes, self.replicas, strict=False):
            with primary.client() as client:
                name = client.execute_command("CLUSTER", "MYID").decode()
            with replica.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", name)
        eventually(lambda: all(map(_follows, self.replicas)), what="replicas that follow")
        eventually(lambda: all(map(self._knows_replicas, self._servers)), what="known replicas")

    def _is_whole(self, server: RedisServer) -> bool:
        with server.client() as client:
            info = client.execute_command("CLUSTER INFO")
        state = {str(key): str(value) for key, value in info.items()}
        return state["cluster_state"] == "ok" and state["cluster_known_nodes"] == str(len(self._servers))

    def _knows_replicas(self, server: RedisServer) -> bool:
        """Until all know it, a failover would not get the votes of a majority."""
        with server.client() as client:
            nodes = client.execute_command("CLUSTER NODES").values()
        return sum("slave" in node["flags"] for node in nodes) == len(self.replicas)


def _serves(server: RedisServer, key: str) -> bool:
    with server.client() as client:
        try:
            slot = client.execute_command("CLUSTER", "KEYSLOT", key)
            nodes = client.execute_command("CLUSTER NODES").values()
        except ConnectionError:
            return False  # it was killed
    [own] = [node for node in nodes if "myself" in node["flags"]]
    return any(int(slots[0]) <= slot <= int(slots[-1]) for slots in own["slots"])


def _follows(replica: RedisServer) -> bool:
    with replica.client() as client:
        info = client.info("replication")
    return bool(info["role"] == "slave" and info["master_link_status"] == "up")


class RedisSentinelServers:
    """A primary, its replica, and sentinels that make the replica primary when the primary is gone.

    More than half of the sentinels must agree that it is gone.
    """

    def __init__(self, *, sentinels: int = 1) -> None:
        with ExitStack() as stack:
            first, second, *watches = free_ports(2 + sentinels)
            self.primary = stack.enter_context(RedisServer("--repl-diskless-sync-delay", "0", port=first))
            self.replica = stack.enter_context(
                RedisServer("--replicaof", "127.0.0.1", str(first), port=second)
            )
            eventually(lambda: _follows(self.replica))
            self._sentinels = [
                stack.enter_context(
                    RedisServer(
                        "--sentinel",
                        port=watch,
                        config=(
                            f"sentinel monitor main 127.0.0.1 {first} {sentinels // 2 + 1}\n"
                            "sentinel down-after-milliseconds main 200\n"
                            "sentinel failover-timeout main 1000\n"
                        ),
                    )
                )
                for watch in watches
            ]
            eventually(self._all_know_each_other, what="sentinels that know the replica and each other")
            self._exit = stack.pop_all()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self._sentinels)
        return f"redis+sentinel://{hosts}/main"

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

    def _all_know_each_other(self) -> bool:
        return all(self._knows_the_others(sentinel) for sentinel in self._sentinels)

    def _knows_the_others(self, sentinel: RedisServer) -> bool:
        with sentinel.client() as client:
            known = client.sentinel_master("main")
        return bool(known["num-slaves"] == 1 and known["num-other-sentinels"] == len(self._sentinels) - 1)
