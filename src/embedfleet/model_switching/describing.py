"""Describes switches to other models as people see them, from what SQL has of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from embedfleet.clock import utc
from embedfleet.model_switching.schemas import (
    GateFindings,
    GateMeasurements,
    RetireReceipt,
    SwitchCoverage,
    SwitchInfo,
    WorstQuestion,
)
from embedfleet.model_switching.standing import kept_until, orders_now, progress_of, sentence
from embedfleet.records import model_switches, past_work, switch_questions
from embedfleet.records.model_switches import ModelSwitch


def describe(conn: Connection, switch: ModelSwitch, *, keep_days: float, worst: bool) -> SwitchInfo:
    """Describe a switch; with `worst`, with the questions that the new space answers worst.

    The cost grows with the tenant's documents, while the switch is under way.
    """
    progress = None
    if switch.running:
        counts = model_switches.counts(conn, switch)
        because = model_switches.why_jobs_failed(conn, switch) if counts.failed else None
        progress = progress_of(switch, counts, past_work.latest_jobs_of_switch(conn, switch), because)
    until = _time(kept_until(switch, keep_days))
    found = switch.findings
    coverage = found.get("coverage")
    return SwitchInfo(
        switch_id=switch.switch_id,
        campaign=switch.campaign,
        tenant_id=switch.tenant,
        from_model=switch.old.name,
        to_model=switch.to_collection.model,
        trial_of=switch.trial_of,
        phase=switch.phase,
        percent=switch.percent,
        wanted_percent=switch.wanted_percent,
        sticky_by=switch.sticky_by,
        paused=switch.paused,
        most_jobs=switch.most_jobs,
        started_at=utc(switch.started_at),
        changed_at=utc(switch.changed_at),
        switched_at=_time(switch.switched_at),
        kept_until=until,
        ended_at=_time(switch.ended_at),
        forced_by=found.get("forced_by"),
        forced_at=_time(found.get("forced_at")),
        progress=progress,
        coverage=None if coverage is None else SwitchCoverage(**coverage),
        gate=_gate(found.get("gate")),
        worst=_worst(conn, switch) if worst else (),
        stranded=found.get("stranded"),
        receipt=_receipt(switch),
        waits_for=found.get("waits_for") if switch.running else None,
        says=sentence(switch, progress, None if until is None else f"{until:%Y-%m-%d %H:%M} UTC"),
        orders=orders_now(switch),
    )


def _gate(found: dict[str, Any] | None) -> GateFindings | None:
    if found is None:
        return None
    measured = found["measured"]
    return GateFindings(
        at=utc(found["at"]),
        passed=found["passed"],
        reasons=tuple(found["reasons"]),
        measured=None if measured is None else GateMeasurements(**measured),
    )


def _worst(conn: Connection, switch: ModelSwitch) -> tuple[WorstQuestion, ...]:
    return tuple(
        WorstQuestion(
            question=one.text,
            media_id=one.media_id,
            source=one.source,
            old_rank=one.old_rank,
            new_rank=one.new_rank,
            overlap=one.overlap,
        )
        for one in switch_questions.of_switch(conn, switch)
    )


def _receipt(switch: ModelSwitch) -> RetireReceipt | None:
    found = switch.findings.get("receipt")
    if found is None:
        return None
    return RetireReceipt(
        at=utc(found["at"]),
        model=found["model"],
        space=found["space"],
        documents_left=found["documents_left"],
        vectors_left=found["vectors_left"],
        cached_vectors_deleted=found.get("cached_vectors_deleted", 0),
    )


def _time(at: float | None) -> datetime | None:
    return None if at is None else utc(at)
