"""`embedfleet search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.filter_options import (
    After,
    Before,
    Heading,
    MediaIds,
    SourcePrefix,
    WhereOption,
    filter_fields,
)
from embedfleet.cli.options import AsJson, Tenant
from embedfleet.cli.output import Styled, print_json, say, warn, with_command
from embedfleet.cli.place import Place, somewhere
from embedfleet.cli.systems.opening import with_system
from embedfleet.errors import one_line

if TYPE_CHECKING:
    from embedfleet.cli.systems.port import System
    from embedfleet.queue_schemas import SearchHit, SearchHits

_MOST_NAMED = 3  # of the documents with the same text


@somewhere
def search(
    place: Place,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, max=1000, help="How many passages.")] = 5,
    tenant: Tenant = None,
    model: Annotated[str | None, typer.Option("--model", help="Of this model's documents only.")] = None,
    where: WhereOption = None,
    media_id: MediaIds = None,
    source: SourcePrefix = None,
    heading: Heading = None,
    after: After = None,
    before: Before = None,
    as_json: AsJson = False,
) -> None:
    """Find the passages nearest to a query, best first."""
    from embedfleet.searching.search import SearchRequest

    filters = filter_fields(where=where, media_ids=media_id, source=source, after=after, before=before)
    request = SearchRequest(query=query, limit=limit, model=model, heading=heading, **filters)

    async def ask(system: System) -> SearchHits:
        return await system.search(await system.tenant(tenant), request)

    hits = with_system(place, ask)
    if as_json:
        print_json({"query": query, **hits.json_document()})
    else:
        _show(hits)
        if hits.exact and hits:
            compared = f"every passage that is allowed was compared, {hits.candidates:,} in all"
            say(Styled(f"exact: {compared}", dim=True))
    if hits.notice is not None:
        warn(with_command(hits.notice, hits.remedy))


def _show(hits: SearchHits) -> None:
    for number, hit in enumerate(hits, start=1):
        say(
            Styled(f"{number}. {hit.score:.3f} ", bold=True),
            Styled(hit.source or hit.media_id, colour=typer.colors.CYAN),
            Styled(f" [{_place(hit)}{f', {hit.model}' if len(hits.models) > 1 else ''}]", dim=True),
            Styled(f"  {hit.heading}" if hit.heading else "", colour=typer.colors.MAGENTA),
        )
        say("   " + _excerpt(hit.text))
        if hit.copies:
            say(Styled(f"   the same text: {_named(hit)}", dim=True))


def _place(hit: SearchHit) -> str:
    """Where the passage is: character offsets, and the page or the seconds if there are any."""
    place = f"{hit.start}-{hit.end}"
    if hit.page is not None:
        place += f", page {hit.page}"
    if hit.start_seconds is not None:
        place += f", {_clock(hit.start_seconds)}"
    return place


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _named(hit: SearchHit) -> str:
    """The other places of the text: documents by their sources, each once."""
    names = list(dict.fromkeys(copy.source or copy.media_id for copy in hit.copies))
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _excerpt(text: str, width: int = 240) -> str:
    flat = one_line(text)
    return flat if len(flat) <= width else flat[: width - 1] + "…"
