"""The tables of docs/scaling.md are the model's, whose numbers are read from reports; and its arithmetic."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from capacity import (
    DIMENSION,
    GPU_DOLLARS_AN_HOUR,
    HEADROOM,
    PLANS,
    SQL_CORES,
    Part,
    Plan,
    cpu_us_a_chunk,
    part_rows,
    parts,
    plan_rows,
    report,
    simulation_rows,
    three_digits,
)

SCALING = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text()


def test_the_tables_of_the_document_are_those_of_the_model() -> None:
    for row in [*part_rows(), *plan_rows(), *simulation_rows()]:
        assert row in SCALING


def test_parts_fill_in_the_order_of_the_table() -> None:
    said = re.findall(r"^\d\. \*([^*]+)\*", SCALING, re.MULTILINE)
    assert said == [part.name for part in sorted(parts(), key=lambda part: part.chunks_per_second)]


def test_the_figures_in_the_sentences_are_of_the_reports() -> None:
    runs = report("scale")["runs"]
    full = [run for run in runs if run["tenants_passed_over_a_claim"]]
    starved = next(run for run in runs if not run["tenants_passed_over_a_claim"])
    small = report("fleet_costs")["documents of one or two"]["a_chunk"]["cpu_us"]
    kept = PLANS[-1].days * 24 * GPU_DOLLARS_AN_HOUR
    gpus = next(part for part in parts() if part.one == "H200").needed(PLANS[-1].rate)
    asking = [
        run["redis_us_a_chunk_by_operation"]["pass over"] + run["redis_us_a_chunk_by_operation"]["crowded"]
        for run in full
    ]
    costs = [run["redis_us_a_chunk"] for run in full]
    for said in (
        f"{max(costs):.0f} µs a chunk in the simulation below, against {cpu_us_a_chunk('redis'):.0f} µs",
        f"{starved['redis_us_a_chunk']:.0f} µs where embedding workers starve",
        f"{three_digits(1e6 / cpu_us_a_chunk('redis'))} and "
        f"{three_digits(round(starved['chunks_per_second'], -3))} chunks a second",
        f"({min(asking):.0f} to {max(asking):.0f} of {min(costs):.0f} to {max(costs):.0f} µs a chunk)",
        f"at {three_digits(SQL_CORES * 1e6 / small['postgresql'])} chunks a second, "
        f"and Redis at {three_digits(1e6 / small['redis'])}",
        f"{gpus} H200 kept for {PLANS[-1].days} days are ${gpus * kept:,.0f}",
    ):
        assert said in SCALING


def test_a_part_of_which_a_system_has_one_is_not_multiplied() -> None:
    row = next(row for row in plan_rows() if row.startswith("| vector store"))
    assert row.endswith("| 1 | 1 | 2: not possible | 6: not possible |")


def test_a_part_is_added_before_the_others_have_no_headroom_left() -> None:
    part = Part("", "", chunks_per_second=100, source="", add_next="")
    most_of_one = 100 * (1 - HEADROOM)
    assert part.needed(most_of_one) == 1
    assert part.needed(most_of_one + 1) == 2
    assert part.needed(10 * most_of_one) == 10


def test_half_the_time_needs_twice_as_many_of_each_part() -> None:
    slow, fast = Plan(1e10, 60), Plan(1e10, 30)
    assert fast.rate == pytest.approx(2 * slow.rate)
    for part in parts():
        assert 2 * part.needed(slow.rate) - 1 <= part.needed(fast.rate) <= 2 * part.needed(slow.rate)


def test_what_is_paid_for_work_does_not_depend_on_the_time() -> None:
    assert Plan(1e9, 10).gpu_dollars == Plan(1e9, 100).gpu_dollars
    assert Plan(2e9, 10).core_dollars == pytest.approx(2 * Plan(1e9, 10).core_dollars)
    # 25 chunks a second on a core of five cents an hour.
    assert Plan(1e9, 10).minilm_dollars == pytest.approx(1e9 / 25 / 3_600 * 0.05, rel=0.02)


def test_ten_billion_vectors_are_fifteen_terabytes() -> None:
    assert PLANS[-1].chunks == 1e10
    assert PLANS[-1].vector_gigabytes == pytest.approx(1e10 * 4 * DIMENSION / 1e9) == 15_360


def test_numbers_are_shown_with_three_digits() -> None:
    shown = [three_digits(value) for value in (0.12345, 3_858.02, 15_360, 255)]
    assert shown == ["0.123", "3,860", "15,400", "255"]
