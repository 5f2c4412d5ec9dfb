"""How switches to another model, and what they would take, are shown to a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from embedfleet.cli.disk_space import megabytes
from embedfleet.cli.document_names import short_names
from embedfleet.cli.output import print_json, readable_time, say, say_table, warn
from embedfleet.wording import number_of, readable_seconds

if TYPE_CHECKING:
    from embedfleet.model_switching.schemas import (
        GateMeasurements,
        SkippedTenant,
        SwitchEstimate,
        SwitchInfo,
        SwitchProgress,
        WorstQuestion,
    )

# What is ordered, as it is typed. The others are called as the order is.
_COMMANDS = {
    "serve": "serve --percent P",
    "throttle": "throttle --jobs N",
    "force": "switch --to {model} --force",
}
_PACES = {
    "model": "the pace of the latest jobs with this model",
    "calibration": "the pace of the model alone on this machine",
    "workers": "the pace of the workers now, with other models",
    "past": "the pace of the latest jobs with the old model",
}
_MOST_TENANTS = 20


def print_switches(found: Sequence[SwitchInfo], more: Mapping[str, Any] | None = None) -> None:
    """Write the switches as the JSON document of a command."""
    print_json({"switches": [one.json_document() for one in found], **(more or {})})


def say_switches(found: Sequence[SwitchInfo], *, none: str) -> None:
    """Write a single switch in full, and several as a table."""
    if not found:
        say(none)
    elif len(found) == 1:
        for line in _lines(found[0]):
            say(line)
        _say_worst(found[0].worst)
    else:
        say_table(_HEADINGS, map(_cells, found), right=(0, 5, 6, 7))
        for one in found:
            for reason in () if one.gate is None or one.gate.passed else one.gate.reasons:
                say(f"refused: tenant {one.tenant_id}: {reason}")
            if one.waits_for is not None:
                say(f"waits: tenant {one.tenant_id}: {one.waits_for}")


def warn_of_skipped(skipped: Sequence[SkippedTenant]) -> None:
    """Write to stderr for which tenants nothing was done, and why."""
    for one in skipped:
        warn(f"left out: {one.reason}")


_HEADINGS = ("switch", "tenant", "from", "to", "phase", "queries", "documents", "left")


def _cells(one: SwitchInfo) -> list[str]:
    progress = one.progress
    return [
        str(one.switch_id),
        one.tenant_id,
        one.from_model,
        one.to_model,
        "paused" if one.paused else one.phase.value if one.trial_of is None else "trial",
        f"{one.percent:g}%",
        "-" if progress is None else f"{progress.there:,}/{progress.documents:,}",
        "-" if progress is None or progress.seconds_left is None else readable_seconds(progress.seconds_left),
    ]


def _lines(one: SwitchInfo) -> Iterator[str]:
    yield f"switch     {one.switch_id}: tenant {one.tenant_id} from {one.from_model} to {one.to_model}"
    since = f"since {readable_time(one.changed_at)}, begun {readable_time(one.started_at)}"
    yield f"phase      {one.phase}{', paused' if one.paused else ''}, {since}"
    yield f"           {one.says}"
    if one.waits_for is not None:
        yield f"waits      {one.waits_for}"
    share = "" if one.percent == one.wanted_percent else f"; {one.wanted_percent:g}% once the gate is passed"
    if one.phase.value == "retiring":
        share = ""  # the gate is behind it, or it was given up
    if one.ended_at is None and one.trial_of is None:
        yield f"queries    {one.percent:g}% are answered with {one.to_model}{share}"
    if one.progress is not None:
        yield f"documents  {_progress(one.progress)}"
        if one.progress.failed_because is not None:
            yield f"failed     {one.progress.failed_because}"
    if one.coverage is not None:
        found = one.coverage
        yield (
            f"read back  {found.read:,} of {found.chunks:,} chunks, {found.missing:,} missing, "
            f"{found.wrong:,} wrong ({found.share:.1%} of the documents)"
        )
    if one.gate is not None:
        yield f"gate       {'passed' if one.gate.passed else 'refused'} {readable_time(one.gate.at)}"
        yield from () if one.gate.measured is None else _measured(one.gate.measured)
        yield from (f"reason     {reason}" for reason in one.gate.reasons)
    if one.forced_at is not None:
        yield f"forced     by {one.forced_by} at {readable_time(one.forced_at)}"
    if one.stranded:
        yield f"stranded   {number_of(one.stranded, 'document')} stay in the space that is emptied"
    if one.receipt is not None:
        found_left = f"{one.receipt.vectors_left:,} vectors and {one.receipt.documents_left:,} documents"
        yield f"receipt    {found_left} are left of {one.receipt.model}, {readable_time(one.receipt.at)}"
    if one.orders:
        typed = (_COMMANDS.get(order, order).format(model=one.to_model) for order in one.orders)
        yield f"orders     {', '.join(f'`models {command}`' for command in typed)}"


def _progress(found: SwitchProgress) -> str:
    pieces = [f"{found.there:,} of {found.documents:,} are in both spaces ({found.share:.1%})"]
    if found.under_way:
        pieces.append(f"{found.under_way:,} under way")
    if found.failed:
        pieces.append(f"{found.failed:,} failed")
    if found.seconds_left:
        pieces.append(f"about {readable_seconds(found.seconds_left)} more")
    return ", ".join(pieces)


def _measured(found: GateMeasurements) -> Iterator[str]:
    change = found.new_recall - found.old_recall
    yield (
        f"recall     {found.old_recall:.1%} -> {found.new_recall:.1%} of {found.questions:,} known items "
        f"among the first {found.k}: {change:+.1%} "
        f"(95% {found.difference_low:+.1%} to {found.difference_high:+.1%})"
    )
    old_ms, new_ms = 1000 * found.old_p95_seconds, 1000 * found.new_p95_seconds
    yield (
        f"answers    {found.overlap:.1%} of the hits in common, p95 {old_ms:.1f} -> {new_ms:.1f} ms, "
        f"{found.old_bytes:,} -> {found.new_bytes:,} bytes a vector"
    )


def _say_worst(worst: Sequence[WorstQuestion]) -> None:
    worse = [one for one in worst if one.is_worse]
    if not worse:
        return
    say("")
    say("questions that the new model answers worse, by the place of the right document:")
    names = short_names((one.media_id, one.source) for one in worse)
    rows = [
        (
            _place(one.old_rank),
            _place(one.new_rank),
            f"{one.overlap:.0%}",
            names[one.media_id, one.source],
            one.question,
        )
        for one in worse
    ]
    say_table(("old", "new", "overlap", "document", "question"), rows, right=(0, 1, 2))


def _place(rank: int | None) -> str:
    return "-" if rank is None else str(rank)


def say_estimate(found: SwitchEstimate) -> None:
    """Write what the switches would take."""
    if found.tenants:
        _say_work(found)
    else:
        say(f"to         {found.to_model}: no documents are to be embedded")
    if found.model_set:
        names = ", ".join(found.model_set[:_MOST_TENANTS])
        say(f"no work    {number_of(len(found.model_set), 'tenant')}: only the model is set ({names})")
    warn_of_skipped(found.left_out)


def _say_work(found: SwitchEstimate) -> None:
    there = f"; {found.there:,} are there already" if found.there else ""
    tenants = number_of(len({one.tenant_id for one in found.tenants}), "tenant")
    say(f"to         {found.to_model}, for {tenants} with {number_of(found.documents, 'document')}{there}")
    cost = "no price is set for the model" if found.cost is None else f"{found.cost:.4f} {found.currency}"
    about = "" if found.tokens_are_exact else "about "
    say(f"tokens     {about}{found.tokens:,} in {number_of(found.chunks, 'chunk')}: {cost}")
    cached = sum(one.cached_vectors for one in found.tenants)
    if cached:
        say(f"cache      {number_of(cached, 'vector')} of the model are there: their chunks are not embedded")
    say(f"time       {told_time(found)}")
    free = "" if found.free_bytes is None else f"; {megabytes(found.free_bytes)} are free"
    say(
        f"disk       {megabytes(found.vector_bytes)} of vectors, {megabytes(found.text_bytes)} of texts "
        f"and {megabytes(found.record_bytes)} of rows in SQL{free}"
    )
    if len(found.tenants) > 1:
        say_table(
            ("tenant", "from", "documents", "there", "chunks", "tokens"),
            [
                (
                    one.tenant_id,
                    one.from_model,
                    f"{one.documents:,}",
                    f"{one.there:,}",
                    f"{one.chunks:,}",
                    f"{one.tokens:,}",
                )
                for one in found.tenants[:_MOST_TENANTS]
            ],
            right=(2, 3, 4, 5),
        )
        if len(found.tenants) > _MOST_TENANTS:
            say(f"and {number_of(len(found.tenants) - _MOST_TENANTS, 'more tenant')}")


def told_time(found: SwitchEstimate) -> str:
    """Say how long the work takes, and where its pace is from."""
    if found.seconds is None or found.tokens_per_second is None or found.pace_source is None:
        return "not known: nothing was embedded with the model here yet"
    pace = f"{found.tokens_per_second:,.0f} tokens a second, {_PACES[found.pace_source]}"
    return f"about {readable_seconds(found.seconds)} at {pace}"
