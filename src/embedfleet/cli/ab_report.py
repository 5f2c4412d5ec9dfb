"""How comparisons are shown to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from embedfleet.cli.disk_space import megabytes
from embedfleet.cli.document_names import short_names
from embedfleet.cli.models_switch_report import told_time
from embedfleet.cli.output import readable, readable_time, say, say_table
from embedfleet.wording import number_of, readable_seconds

if TYPE_CHECKING:
    from embedfleet.experiments.schemas import (
        Checks,
        ExperimentInfo,
        ExperimentResults,
        Figures,
        PassageInfo,
        PlanInfo,
        PlannedExperiment,
        QuestionInfo,
        SpaceFigures,
    )
    from embedfleet.model_switching.schemas import SwitchEstimate

HEADINGS = ("experiment", "tenant", "A", "B", "phase", "asked", "verdict", "expires or ended")
RIGHT = (5,)
"""The column of numbers."""
_LONGEST_CELL = 60
_HITS_SHOWN = 3


def cells(one: ExperimentInfo) -> tuple[str, ...]:
    """Return a comparison as a row of a table."""
    return (
        one.experiment_id,
        one.tenant,
        one.model_a,
        one.model_b,
        one.phase.value,
        f"{one.asked:,}",
        _verdict(one),
        readable_time(one.ended_at or one.expires_at),
    )


def say_plan(plan: PlannedExperiment) -> None:
    """Write what a comparison would do."""
    say(f"compare      {plan.model_a} (A) with {plan.model_b} (B), tenant {plan.tenant}")
    left_out = sum(plan.left_out.values())
    if plan.source.value != "clicks":
        reasons = f" ({_words(readable(plan.left_out))})" if plan.left_out else ""
        say(f"questions    {plan.questions:,}: {_words(plan.source)}; {left_out:,} left out{reasons}")
    say(f"needed       {_needed(plan.plan, plan.rule.smallest_difference, plan.rule.power)}")
    _say_work(plan.to_embed)
    _say_warnings(plan.warnings)


def _words(code: str) -> str:
    """Return a code of several words as people write it."""
    return code.replace("_", " ")


def _say_work(work: SwitchEstimate) -> None:
    """Write what has to be embedded. What the model has already is not among it."""
    money = "no price is set" if work.cost is None else f"{work.cost:.2f} {work.currency}"
    about = "" if work.tokens_are_exact else "about "
    lacking = number_of(work.documents - work.there, "document")
    there = f"; {work.there:,} are there already" if work.there else ""
    say(f"to embed     {lacking} with {work.to_model}, {about}{work.tokens:,} tokens ({money}){there}")
    say(f"time         {told_time(work)}")
    free = "" if work.free_bytes is None else f"; {megabytes(work.free_bytes)} are free"
    rows = megabytes(work.text_bytes + work.record_bytes)
    say(f"disk         {megabytes(work.vector_bytes)} of vectors and {rows} in SQL{free}")


def say_experiment(one: ExperimentInfo) -> None:
    """Write what is known of a comparison, without its questions."""
    say(f"experiment   {one.experiment_id} of {one.owner}")
    say(
        f"compares     {one.model_a} (A) with {one.model_b} (B), tenant {one.tenant}, by {_words(one.source)}"
    )
    say(f"rule         {one.rule.metric}: {_needed(one.plan, one.rule.smallest_difference, one.rule.power)}")
    say(f"phase        {one.phase}, {one.asked:,} asked of {one.questions:,}")
    say(f"begun        {readable_time(one.begun_at)}, expires {readable_time(one.expires_at)}")
    if one.ended_at is not None:
        say(f"ended        {readable_time(one.ended_at)}, as {one.reason}")
    if one.checks is not None:
        say(f"A/A check    {_checks(one.checks)}")
    say(f"verdict      {_verdict(one)}")
    if one.promoted is not None:
        say(f"promoted     {one.promoted}")
    if one.ended_at is not None:
        say(f"space kept   {_kept(one)}")
    _say_warnings(one.warnings)


def own_arm(one: ExperimentInfo) -> str:
    """Return the arm that the tenant has while it is compared."""
    return "route" if "route" in (one.model_a, one.model_b) else one.model_a


def _kept(one: ExperimentInfo) -> str:
    """Say how long the second space is kept."""
    if one.promoted not in (None, own_arm(one)):
        return "by the switch to it: `embedfleet models switches` shows that"
    if one.keep:
        return "until it is ended by hand"
    until = one.space_kept_until
    return "no: it is freed at once" if until is None else f"until {readable_time(until)}"


def say_results(found: ExperimentResults) -> None:
    """Write all that is known of a comparison."""
    one = found.experiment
    say_experiment(one)
    if found.metrics:
        say("")
        rows = [_figures(each)[1:] for each in found.metrics]
        say_table(("metric", "n", "A", "B", "B - A", "95%"), rows, right=range(1, 5))
    if found.overlap is not None:
        say(f"overlap      {found.overlap:.1%} of the hits are those of both models")
    say("")
    say_table(
        ("model", "documents", "chunks", "tokens", "cost", "bytes a vector", "p95 of a search"),
        map(_space, found.spaces),
        right=range(1, 7),
    )
    for space in found.spaces:
        if space.models != (space.model,):
            say(f"{space.model:<13}{', '.join(space.models)}")
    if found.slices:
        say("")
        say_table(
            ("slice", "", "n", "A", "B", "B - A", "95%"), map(_figures, found.slices), right=range(2, 6)
        )
    shown = [hit for question in (*found.worst, *found.best) for hit in (*question.a, *question.b)]
    names = short_names((hit.media_id, hit.source) for hit in shown)
    _say_questions(f"where {one.model_b} loses most", found.worst, names)
    _say_questions(f"where {one.model_b} gains most", found.best, names)


def _say_questions(
    title: str, questions: Iterable[QuestionInfo], names: Mapping[tuple[str, str | None], str]
) -> None:
    for number, one in enumerate(questions):
        if not number:
            say("")
            say(title)
        text = "(its document has changed)" if one.text is None else one.text
        say(f"  {text}  [A {one.score_a:.2f}, B {one.score_b:.2f}; right: {_right(one, names)}]")
        for a, b in _side_by_side(one, names):
            say(f"    A {a:<{_LONGEST_CELL}}  B {b}".rstrip())


def _side_by_side(
    one: QuestionInfo, names: Mapping[tuple[str, str | None], str]
) -> Iterable[tuple[str, str]]:
    for rank in range(_HITS_SHOWN):
        a, b = (_passage(hits[rank], names) if rank < len(hits) else "" for hits in (one.a, one.b))
        if a or b:
            yield a, b


def _passage(one: PassageInfo, names: Mapping[tuple[str, str | None], str]) -> str:
    mark = "*" if one.is_right else " "
    text = " ".join((one.text or "").split())
    shown = f"{mark} {names[one.media_id, one.source]} {one.start}-{one.end}: {text}"
    return shown if len(shown) <= _LONGEST_CELL else shown[: _LONGEST_CELL - 1] + "…"


def _right(one: QuestionInfo, names: Mapping[tuple[str, str | None], str]) -> str:
    """Return the names of the right documents. Their sources are known of those that were found."""
    known = {media_id: name for (media_id, _), name in names.items()}
    return ", ".join(known.get(media_id, media_id) for media_id in one.right) or "-"


def _figures(one: Figures) -> tuple[str, ...]:
    return (
        one.name,
        one.value,
        f"{one.queries:,}",
        f"{one.a:.3f}",
        f"{one.b:.3f}",
        f"{one.difference:+.3f}",
        f"{one.low:+.3f} to {one.high:+.3f}",
    )


def _space(one: SpaceFigures) -> tuple[str, ...]:
    return (
        one.model,
        f"{one.documents:,}",
        f"{one.chunks:,}",
        f"{one.tokens:,}",
        "-" if one.cost is None else f"{one.cost:.2f} {one.currency}",
        f"{one.bytes_per_vector:,}",
        "-" if one.p95_seconds is None else readable_seconds(one.p95_seconds),
    )


def _needed(plan: PlanInfo, smallest_difference: float, power: float) -> str:
    by = "measured by the first ones" if plan.by_pilot else "a cautious guess, until the first are asked"
    return (
        f"{plan.queries:,} questions find a difference of {smallest_difference:g} in {power:.0%} of such "
        f"comparisons (deviation {plan.deviation:.2f}, {by})"
    )


def _checks(checks: Checks) -> str:
    alarms = number_of(checks.alarms, "false alarm")
    told = f"{alarms} in {checks.experiments:,} (up to {checks.allowed:,} allowed)"
    if checks.repeated:
        told += f"; A asked twice: {checks.unequal:,} of {checks.repeated:,} answers differ"
    return told if checks.passed else f"FAILED: {told}"


def _verdict(one: ExperimentInfo) -> str:
    if one.verdict is None:
        return "none yet" if one.ended_at is None else "none"
    return one.verdict.sentence if one.ended_at is not None else f"so far: {one.verdict.sentence}"


def _say_warnings(warnings: Iterable[str]) -> None:
    for one in warnings:
        say(f"mind         {one}")
