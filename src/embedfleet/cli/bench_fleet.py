"""`embedfleet bench fleet`: what a running fleet does in a while, and how it spends its time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedfleet.cli.options import AsJson
from embedfleet.cli.output import NOTHING_DONE, PARTLY_DONE, print_json, say, say_table, warn
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system
from embedfleet.wording import number_of, readable_fraction, readable_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from embedfleet.cli.systems.port import System

app = typer.Typer(help="Measure a running fleet.", no_args_is_help=True)

Ports = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        metavar="URL",
        help="The monitoring port of an orchestrator, such as http://node3:9090; may be repeated.",
        show_default="that of the settings, on this machine",
    ),
]
Seconds = Annotated[
    float | None, typer.Option("--seconds", min=1.0, help="How long to look.", show_default="60")
]
Load = Annotated[
    int,
    typer.Option(
        "--load",
        min=0,
        max=1_000_000,
        metavar="N",
        help="Submit N made-up documents under a tenant of their own, and look until they are searchable. "
        "Then the tenant is erased.",
    ),
]


@app.command("fleet")
@somewhere
def fleet(
    place: Place, metrics: Ports = None, seconds: Seconds = None, load: Load = 0, as_json: AsJson = False
) -> None:
    """Measure a fleet at work: tokens/s, lengths, batches, how busy models are, waits, CPU.

    The figures are of the orchestrators whose ports are named. Exit code 3 if others run, or if documents of
    the load failed.
    """
    from embedfleet.cli.bench_fleet_run import LoadedWindow, measure

    if load and seconds is not None:
        raise typer.BadParameter("the load says how long to look: leave out --seconds", param_hint="--load")
    ports = metrics or _ports_of_settings(place)

    async def look(system: System) -> LoadedWindow:
        return await measure(system, ports, seconds=seconds or 60.0, load=load)

    found = with_system(place, look)
    document = found.json_document()
    if as_json:
        print_json(document)
    else:
        _show(document)
    if document["restarts"]:
        warn(
            f"restarted in the window: {number_of(document['restarts'], 'orchestrator')}; what one did after "
            "its last look is not counted"
        )
    for missing in found.not_measured:
        warn(f"not measured: {missing.host}, pid {missing.pid} (name its port with --metrics)")
    if found.failed_documents:
        warn(f"{number_of(found.failed_documents, 'document')} of the load failed")
    if load and found.failed_documents == load:
        raise SystemExit(NOTHING_DONE)
    if found.not_measured or found.failed_documents:
        raise SystemExit(PARTLY_DONE)


def _ports_of_settings(place: Place) -> list[str]:
    if place.server is not None:
        raise typer.BadParameter(
            "a server does not tell the monitoring ports of its fleet: name each", param_hint="--metrics"
        )
    monitoring = place.settings().monitoring
    if not monitoring.metrics_port:
        raise typer.BadParameter(
            "monitoring.metrics_port is 0 in these settings: name the port of a running orchestrator",
            param_hint="--metrics",
        )
    every_address = monitoring.metrics_host in ("0.0.0.0", "::")
    host = "127.0.0.1" if every_address else monitoring.metrics_host
    return [f"http://{f'[{host}]' if ':' in host else host}:{monitoring.metrics_port}"]


def _show(document: Mapping[str, Any]) -> None:
    hosts = ", ".join(sorted({one["host"] for one in document["orchestrators"]}))
    number = number_of(len(document["orchestrators"]), "orchestrator")
    say(f"{number} ({hosts}), {readable_seconds(document['seconds'])}")
    if load := document["load"]:
        say(
            f"load: {number_of(load['documents'], 'document')} searchable in "
            f"{readable_seconds(load['seconds'])}, {number_of(load['chunks'], 'chunk')}, "
            f"{_number(load['chunks_per_second'])} chunks/s"
        )
    say("")
    say_table(_STAGE_HEADINGS, _stage_rows(document), right=range(1, len(_STAGE_HEADINGS)))
    if document["models"]:
        say("")
        rows = [_model_cells(name, model) for name, model in document["models"].items()]
        say_table(_MODEL_HEADINGS, rows, right=range(1, len(_MODEL_HEADINGS)))
    if calls := _call_rows(document):
        say("")
        say_table(_CALL_HEADINGS, calls, right=range(1, len(_CALL_HEADINGS)))
    say("")
    say(f"vector store: {_number(document['vector_store']['rows_per_second'])} rows/s")
    say(f"embedding cache: {_share(document['cache_hit_share'])} of the chunks were known")
    cores = document["cpu_cores"].get("orchestrator")
    say(f"CPU of the orchestrators and of what runs in them: {_number(cores)} cores")


_STAGE_HEADINGS = (
    "stage",
    "workers",
    "busy",
    "tasks/s",
    "tokens/s",
    "tasks a claim",
    "claim p50",
    "p95",
    "queued",
    "wait",
    "CPU cores",
)


def _stage_rows(document: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    return [
        (
            stage,
            _number(found["workers"]),
            _share(found["busy_share"]),
            _number(found["tasks_per_second"]),
            _number(found["tokens_per_second"]),
            _number(found["tasks_a_claim"]),
            _seconds(found["claim_seconds"]["p50"]),
            _seconds(found["claim_seconds"]["p95"]),
            _number(found["queued_tasks"]),
            _seconds(found["queue_wait_seconds"]),
            _number(document["cpu_cores"].get(stage)),
        )
        for stage, found in document["stages"].items()
    ]


_MODEL_HEADINGS = (
    "model",
    "tokens/s",
    "texts/s",
    "busy",
    "padding",
    "texts a call",
    "tokens a call p50",
    "p95",
    "chunk tokens mean",
    "p50",
    "p95",
)


def _model_cells(name: str, model: Mapping[str, Any]) -> Sequence[str]:
    return (
        name,
        _number(model["tokens_per_second"]),
        _number(model["texts_per_second"]),
        _share(model["busy_share"]),
        _share(model["padding_share"]),
        _number(model["call_texts"]["mean"]),
        _number(model["call_tokens"]["p50"]),
        _number(model["call_tokens"]["p95"]),
        _number(model["chunk_tokens"]["mean"]),
        _number(model["chunk_tokens"]["p50"]),
        _number(model["chunk_tokens"]["p95"]),
    )


_CALL_HEADINGS = ("calls", "calls/s", "mean", "p50", "p95")


def _call_rows(document: Mapping[str, Any]) -> Sequence[Sequence[str]]:
    groups = (("vector store", document["vector_store"]["calls"]), ("SQL", document["sql"]["units"]))
    return [
        (
            f"{group}: {operation}",
            _number(calls["per_second"]),
            *(_seconds(calls["seconds"][figure]) for figure in ("mean", "p50", "p95")),
        )
        for group, operations in groups
        for operation, calls in operations.items()
        if calls["per_second"]
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else readable_fraction(value)


def _seconds(value: float | None) -> str:
    return "-" if value is None else readable_seconds(value)
