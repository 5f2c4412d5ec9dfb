"""Searches go before waiting writes, and never keep them from going on."""

from __future__ import annotations

from functools import partial

import pytest

from embedfleet.vectors.chroma.call_order import CallOrder


def test_searches_go_before_writes_that_wait_and_alike_calls_in_their_order() -> None:
    order = CallOrder()
    done: list[str] = []
    for name in ("write 1", "write 2"):
        order.add(partial(done.append, name), urgent=False)
    for name in ("search 1", "search 2"):
        order.add(partial(done.append, name), urgent=True)
    for _ in range(4):
        order.take()
    assert done == ["search 1", "search 2", "write 1", "write 2"]


def test_a_write_goes_on_however_many_searches_wait() -> None:
    order = CallOrder()
    done: list[str] = []
    order.add(lambda: done.append("write"), urgent=False)
    for _ in range(20):
        order.add(lambda: done.append("search"), urgent=True)
    for _ in range(21):
        order.take()
    assert done.index("write") == 8
    assert done.count("search") == 20


def test_a_large_write_is_in_parts_while_searches_come_and_only_then() -> None:
    now = 100.0
    order = CallOrder(lambda: now)
    assert order.rows_of_a_write(500) == 500
    order.add(str, urgent=False)
    assert order.rows_of_a_write(500) == 500
    order.add(str, urgent=True)
    assert (order.rows_of_a_write(500), order.rows_of_a_write(3)) == (16, 3)
    now += 5.0
    assert order.rows_of_a_write(500) == 500


def test_a_cancelled_call_is_left_out_and_an_error_is_that_of_its_caller() -> None:
    order = CallOrder()
    done: list[str] = []
    cancelled = order.add(lambda: done.append("never"), urgent=True)
    failing = order.add(lambda: 1 / 0, urgent=True)
    fine = order.add(lambda: "fine", urgent=False)
    assert cancelled.cancel()
    for _ in range(3):
        order.take()
    assert done == []
    with pytest.raises(ZeroDivisionError):
        failing.result(timeout=0)
    assert fine.result(timeout=0) == "fine"
