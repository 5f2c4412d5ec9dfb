"""`embedfleet traffic shadow begin|end|list|show`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from embedfleet.cli.options import AsJson
from embedfleet.cli.output import print_json, say_table
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.quantities import fraction, seconds
from embedfleet.cli.shadow_report import HEADINGS, RIGHT, cells, say_shadow
from embedfleet.cli.systems.opening import with_system

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import Shadows, System
    from embedfleet.records.cursors import Page
    from embedfleet.traffic.shadow_schemas import ShadowInfo

T = TypeVar("T")

app = typer.Typer(
    help="Shadow runs: the old path answers, the fleet does the same unseen, and the two are compared.",
    no_args_is_help=True,
)
ShadowId = Annotated[str, typer.Argument(metavar="SHADOW", help="The run's id, as `shadow list` shows it.")]


@app.command("begin")
@somewhere
def begin(
    place: Place,
    owner: Annotated[str, typer.Option("--owner", help="Who decides by this run.")],
    requests: Annotated[int, typer.Option("--requests", min=1, help="How many requests decide it.")],
    expires_in: Annotated[
        str, typer.Option("--expires-in", metavar="TIME", help="When it ends in any case.")
    ],
    max_mismatch_rate: Annotated[
        str,
        typer.Option(
            "--max-mismatch-rate", metavar="PERCENTAGE", help="The most answers that may be different."
        ),
    ] = "1%",
    max_error_rate: Annotated[
        str, typer.Option("--max-error-rate", metavar="PERCENTAGE", help="The most errors of the fleet.")
    ] = "1%",
    max_p99_ratio: Annotated[
        float | None,
        typer.Option("--max-p99-ratio", help="The most that its p99 may be over the old path's."),
    ] = None,
    min_cosine: Annotated[
        float,
        typer.Option("--min-cosine", min=-1.0, max=1.0, help="Vectors with a lower cosine are different."),
    ] = 0.999,
    as_json: AsJson = False,
) -> None:
    """Begin a run. It ends by itself: when its rule is decided, and at its expiry at the latest.

    Without --max-p99-ratio, latency does not decide. What the fleet made for the run is deleted afterwards.
    One run goes on at a time.
    """
    from embedfleet.traffic.shadow_schemas import ShadowRule

    rule = ShadowRule(
        requests=requests,
        max_mismatch_rate=fraction(max_mismatch_rate, "--max-mismatch-rate"),
        max_error_rate=fraction(max_error_rate, "--max-error-rate"),
        max_p99_ratio=max_p99_ratio,
        min_cosine=min_cosine,
    )
    expires_seconds = seconds(expires_in, "--expires-in")
    begun = _with_shadows(
        place, lambda shadows: shadows.begin(owner=owner, rule=rule, expires_seconds=expires_seconds)
    )
    _show(begun, as_json=as_json)


@app.command("end")
@somewhere
def end(place: Place, shadow_id: ShadowId, as_json: AsJson = False) -> None:
    """End a run before its time. Its rule decides if it can; otherwise it stays undecided."""
    _show(_with_shadows(place, lambda shadows: shadows.end(shadow_id)), as_json=as_json)


@app.command("list")
@somewhere
def list_shadows(
    place: Place,
    limit: Annotated[int, typer.Option("-n", "--limit", min=1, max=100_000, help="How many.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Runs, newest first: whose they are, what they found, and their verdicts."""

    async def look(shadows: Shadows) -> Page[ShadowInfo]:
        return await shadows.list_shadows(limit=limit)

    found = _with_shadows(place, look)
    if as_json:
        print_json({"shadows": [one.json_document() for one in found]})
    else:
        say_table(HEADINGS, map(cells, found), right=RIGHT)


@app.command("show")
@somewhere
def show(place: Place, shadow_id: ShadowId, as_json: AsJson = False) -> None:
    """One run: its rule, its verdict, and examples of what was different (ids and numbers, no text)."""
    _show(_with_shadows(place, lambda shadows: shadows.show(shadow_id)), as_json=as_json)


def _show(shadow: ShadowInfo, *, as_json: bool) -> None:
    if as_json:
        print_json({"shadow": shadow.json_document()})
    else:
        say_shadow(shadow)


def _with_shadows(place: Place, act: Callable[[Shadows], Awaitable[T]]) -> T:
    """Run `act` as the operator of this machine, or as whose API key it is; returns what it returns."""

    async def run(system: System) -> T:
        return await act(await system.shadows())

    return with_system(place, run)
