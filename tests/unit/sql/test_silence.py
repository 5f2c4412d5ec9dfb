"""A host that has vanished is noticed in time, at both ends of a connection."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import Engine

from embedfleet.sql.silence import KEEPALIVES, SILENCE_SECONDS
from embedfleet.sql.sole import AdvisoryLock


class _Statements:
    """An engine and its connection, which notes what it is to execute."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def connect(self) -> _Statements:
        return self

    def execution_options(self, **_: Any) -> _Statements:
        return self

    def execute(self, statement: Any, *_: Any) -> _Statements:
        self.said.append(str(statement))
        return self

    def scalar_one(self) -> bool:
        return True


def test_unanswered_probes_end_with_the_time() -> None:
    idle, interval, count = (KEEPALIVES[f"keepalives_{name}"] for name in ("idle", "interval", "count"))
    assert idle + interval * count == SILENCE_SECONDS


def test_the_server_probes_the_holder_of_a_lock_as_often_as_it_is_probed() -> None:
    statements = _Statements()
    assert AdvisoryLock(cast("Engine", statements), "move").take()
    wanted = {f"SET tcp_{name} = {value}" for name, value in KEEPALIVES.items()}
    assert wanted <= set(statements.said)
