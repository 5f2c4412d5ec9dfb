"""`embedfleet search`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from embedfleet.cli.options import AsJson, ConfigFile, DataDir, Tenant, settings_from
from embedfleet.cli.output import print_json
from embedfleet.errors import DataDirectoryInUse, InvalidRequest, one_line

if TYPE_CHECKING:
    from embedfleet.queue_schemas import SearchHit
    from embedfleet.search import SearchRequest
    from embedfleet.settings import Settings


def search(
    query: Annotated[str, typer.Argument(help="What to look for.")],
    limit: Annotated[int, typer.Option("-k", "--limit", min=1, max=1000, help="How many passages.")] = 5,
    tenant: Tenant = None,
    model: Annotated[str | None, typer.Option("--model", help="Of which model's documents.")] = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Find the passages nearest to a query, best first."""
    from embedfleet.search import SearchRequest

    if not query.strip():
        raise InvalidRequest("the query is empty: say what to look for")
    settings = settings_from(data_dir, config)
    request = SearchRequest(query=query, limit=limit, model=model)
    hits = asyncio.run(_search(settings, tenant or settings.tenants.default_tenant, request))
    if as_json:
        print_json({"query": query, "hits": [hit.model_dump(mode="json") for hit in hits]})
    else:
        _show(hits)


async def _search(settings: Settings, tenant: str, request: SearchRequest) -> list[SearchHit]:
    """Search in this process; if another one owns the data directory, let that one search."""
    from embedfleet.bootstrap import open_guest, open_search

    try:
        async with open_search(settings, purpose="search") as service:
            return await service.search(tenant, request)
    except DataDirectoryInUse:
        async with open_guest(settings) as guest:
            return await guest.search.search(tenant, request)


def _show(hits: list[SearchHit]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    if not hits:
        console.print("nothing found: has anything been ingested for this tenant?")
    for number, hit in enumerate(hits, start=1):
        title = Text(f"{number}. {hit.score:.3f} ", style="bold")
        title.append(hit.source or hit.media_id, style="cyan")
        title.append(f" [{hit.start}-{hit.end}]", style="dim")
        if hit.heading:
            title.append(f"  {hit.heading}", style="magenta")
        console.print(title, soft_wrap=True)
        console.print(Text("   " + _excerpt(hit.text)), soft_wrap=True)


def _excerpt(text: str, width: int = 240) -> str:
    flat = one_line(text)
    return flat if len(flat) <= width else flat[: width - 1] + "…"
