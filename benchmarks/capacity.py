"""How many of each part a fleet needs for so many chunks in so many days: the model of docs/scaling.md.

    python benchmarks/capacity.py [--chunks 1e10] [--days 30]

Each part is taken by what one of it does in a second. These numbers are read from the reports in
`benchmarks/results`, or are assumptions, which say so. Those that are computed from the processor time of a
chunk were seen at no such rate. The model is linear: twice as many do twice as much. It leaves `HEADROOM`
idle. What it leaves out is said in docs/scaling.md.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

HEADROOM = 0.3
"""An assumption: the share of each part that is left idle, for peaks and for what is repeated."""
TOKENS_OF_CHUNK = 200
"""An assumption, near the 198 to 249 of the corpora measured (`embedding.py`, `chunking.py`, `gpu.py`)."""
DIMENSION = 384
CHUNKS_OF_BATCH = 64
SECONDS_OF_DAY = 86_400

# Prices are assumptions: of on-demand machines in dollars, to be replaced by one's own.
GPU_DOLLARS_AN_HOUR = 4.0
CORE_DOLLARS_AN_HOUR = 0.05
GIGABYTE_DOLLARS_A_MONTH = 0.10
NETWORK_BYTES_PER_SECOND = 1.25e9
"""An assumption: 10 Gbit/s into and out of the host of Redis."""
SQL_CORES = 16
"""An assumption: of the PostgreSQL server, and that 16 do 16 times what one does."""


@cache
def report(name: str) -> dict[str, Any]:
    """The figures of a report in `benchmarks/results`."""
    figures: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())["figures"]
    return figures


def cpu_us_a_chunk(kind: str) -> float:
    """Measured processor time a chunk in documents of many chunks."""
    return float(report("fleet_costs")["documents of many chunks"]["a_chunk"]["cpu_us"][kind])


def redis_us_a_chunk() -> float:
    """What a chunk takes of a Redis where tenants fill their shares: the most of the simulated fleets.

    There each claim for chunking asks about tenants and passes them over.
    """
    runs = report("scale")["runs"]
    return max(float(run["redis_us_a_chunk"]) for run in runs if run["tenants_passed_over_a_claim"])


def redis_bytes_a_chunk() -> float:
    """What goes to Redis and comes from it: token ids, then vectors, each offered and claimed.

    The bytes of a call beside its message are shared by the chunks of a batch.
    """
    message = 16 * 2 + 4 + 4 * TOKENS_OF_CHUNK + 4 * DIMENSION  # ids twice, a length, tokens, vector
    calls = report("broker_costs")["1000 tenants"]["calls"]
    of_one_task = [calls[name][0] for name in ("enqueue", "claim", "ack")]
    beside = sum(float(call["bytes_in"] + call["bytes_out"]) for call in of_one_task)
    return 2 * message + 2 * beside / CHUNKS_OF_BATCH


def sql_bytes_a_chunk() -> float:
    return float(report("fleet_costs")["documents of many chunks"]["a_chunk"]["postgresql_database_bytes"])


@dataclass(frozen=True, slots=True)
class Part:
    """What one of a kind does, and what helps when it is too little."""

    name: str
    one: str
    chunks_per_second: float
    source: str
    add_next: str
    most: int | None = None
    """How many of them one system can use; None: any number."""

    def needed(self, rate: float) -> int:
        """How many are needed for this many chunks a second."""
        return ceil(rate / (self.chunks_per_second * (1 - HEADROOM)))


def parts() -> Sequence[Part]:
    """The parts in the order of a chunk's way."""
    gpu = report("gpu")["shapes"]["large"]["chunks_per_second"]["pipeline, fleet"]
    return (
        Part(
            "chunking",
            "core",
            1e6 / cpu_us_a_chunk("chunking"),
            "`fleet_costs.py`, computed",
            "chunking workers",
        ),
        Part(
            "embedding, large model",
            "H200",
            min(gpu),
            "`gpu.py`, 24 layers, as a fleet",
            "a worker a GPU",
        ),
        Part(
            "embedding, MiniLM",
            "core",
            report("embedding")["by_the_clock"]["chunks_per_second"]["runner"] / 2,
            "`embedding.py`, two cores",
            "hosts with embedding workers",
        ),
        Part(
            "storage workers",
            "core",
            1e6 / cpu_us_a_chunk("storage"),
            "`fleet_costs.py`, computed, without the store",
            "storage workers",
        ),
        Part(
            "Redis",
            "server",
            1e6 / redis_us_a_chunk(),
            "`scale.py`, computed, with tenants whose share is full",
            "a cluster: stages on nodes of their own, then `redis.shards`",
        ),
        Part(
            "network of Redis",
            "10 Gbit/s",
            NETWORK_BYTES_PER_SECOND / redis_bytes_a_chunk(),
            "arithmetic, an assumption",
            "a cluster",
        ),
        Part(
            "PostgreSQL",
            f"server of {SQL_CORES} cores",
            SQL_CORES * 1e6 / cpu_us_a_chunk("postgresql"),
            "`fleet_costs.py`, computed",
            "cores and a faster log disk; then a system of its own for some tenants",
        ),
        Part(
            "vector store, embedded Chroma",
            "process",
            report("pipeline")["bare Chroma, with documents"]["median"],
            "`pipeline.py`, vectors of 256 numbers",
            "another kind of store",
            most=1,
        ),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What so many chunks in so many days need."""

    chunks: float
    days: float

    @property
    def rate(self) -> float:
        """Chunks a second."""
        return self.chunks / (self.days * SECONDS_OF_DAY)

    @property
    def gpu_dollars(self) -> float:
        """Of the large model alone, without headroom: GPUs that are done are given back."""
        return self._busy_hours_of("embedding, large model") * GPU_DOLLARS_AN_HOUR

    @property
    def minilm_dollars(self) -> float:
        """Of MiniLM in place of it: the cores that run the model, without headroom."""
        return self._busy_hours_of("embedding, MiniLM") * CORE_DOLLARS_AN_HOUR

    @property
    def core_dollars(self) -> float:
        """Of all that `fleet_costs.py` measures, which is all but the model and the vector store."""
        costs: dict[str, float] = report("fleet_costs")["documents of many chunks"]["a_chunk"]["cpu_us"]
        return self.chunks * sum(costs.values()) / 1e6 / 3_600 * CORE_DOLLARS_AN_HOUR

    def _busy_hours_of(self, name: str) -> float:
        part = next(part for part in parts() if part.name == name)
        return self.chunks / part.chunks_per_second / 3_600

    @property
    def sql_gigabytes(self) -> float:
        return self.chunks * sql_bytes_a_chunk() / 1e9

    @property
    def vector_gigabytes(self) -> float:
        """Of the vectors alone: a store adds its index and texts."""
        return self.chunks * 4 * DIMENSION / 1e9

    @property
    def disk_dollars_a_month(self) -> float:
        return (self.sql_gigabytes + self.vector_gigabytes) * GIGABYTE_DOLLARS_A_MONTH


PLANS = (Plan(1e6, 1), Plan(1e8, 7), Plan(1e9, 14), Plan(1e10, 30))


def part_rows() -> list[str]:
    """The table of parts, in Markdown."""
    head = ["| part | one | chunks/s | from | when it is full, add |", "|---|---|---|---|---|"]
    rows = [
        (part.name, part.one, three_digits(part.chunks_per_second), part.source, part.add_next)
        for part in parts()
    ]
    return head + [f"| {' | '.join(cells)} |" for cells in rows]


def plan_rows(plans: Sequence[Plan] = PLANS) -> list[str]:
    """The table of plans, in Markdown: how many of each part."""
    found = [("chunks", [f"{plan.chunks:,.0f}" for plan in plans])]
    found.append(("days", [f"{plan.days:g}" for plan in plans]))
    found.append(("chunks/s", [three_digits(plan.rate) for plan in plans]))
    for part in parts():
        found.append((f"{part.name}: {part.one}", [_number_of(part, plan.rate) for plan in plans]))
    found.append(("SQL, GB", [three_digits(plan.sql_gigabytes) for plan in plans]))
    found.append(("vectors, GB", [three_digits(plan.vector_gigabytes) for plan in plans]))
    found.append(("large model: busy hours of GPUs, $", [three_digits(plan.gpu_dollars) for plan in plans]))
    found.append(("MiniLM: busy hours of cores, $", [three_digits(plan.minilm_dollars) for plan in plans]))
    found.append(("all other busy hours of cores, $", [three_digits(plan.core_dollars) for plan in plans]))
    found.append(("disks, $ a month", [three_digits(plan.disk_dollars_a_month) for plan in plans]))
    (name, first), *others = [(name, " | ".join(cells)) for name, cells in found]
    return [f"| {name} | {first} |", "|---" * (len(plans) + 1) + "|", *(f"| {n} | {c} |" for n, c in others)]


def simulation_rows() -> list[str]:
    """The rows of the table of simulated fleets, in Markdown."""
    rows = []
    for run in report("scale")["runs"]:
        workers = run["workers"]
        model = "MiniLM" if run["scenario"].startswith("CPU") else "H200"
        cells = (
            f"{workers['chunking']}, {workers['embedding']} of {model}, {workers['storage']}",
            f"{run['tenants']:,}",
            f"{run['chunks_per_second']:,}: {run['share_of_linear']:.3f}",
            f"{run['redis_busy_share']:.0%}",
            f"{run['redis_us_a_chunk']:.0f}, {run['calls_a_chunk']:.2f}, {run['bytes_a_chunk']:,}",
            f"{run['weighted_jain']:.4f}",
            f"{run['largest_error_in_batches_of_its_weight']:.2f}",
            f"{run['worst_wait_by_its_share']:.1f}",
        )
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _number_of(part: Part, rate: float) -> str:
    needed = part.needed(rate)
    return f"{needed:,}" if part.most is None or needed <= part.most else f"{needed:,}: not possible"


def three_digits(value: float) -> str:
    """The number with three digits that count: 1,234 as 1,230."""
    return f"{float(f'{value:.3g}'):,.10g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chunks", type=float, help="with --days: one plan of your own")
    parser.add_argument("--days", type=float, default=30.0)
    arguments = parser.parse_args()
    plans = PLANS if arguments.chunks is None else (Plan(arguments.chunks, arguments.days),)
    print("\n".join([*part_rows(), "", *plan_rows(plans)]))


if __name__ == "__main__":
    main()
