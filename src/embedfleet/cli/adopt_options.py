"""The options of `embedfleet adopt`."""

from __future__ import annotations

from typing import Annotated

import typer

Chroma = Annotated[
    str | None,
    typer.Option("--chroma", metavar="PATH_OR_URL", help="A directory of Chroma, or a Chroma server."),
]
Lancedb = Annotated[str | None, typer.Option("--lancedb", metavar="PATH", help="Or: a directory of LanceDB.")]
Pgvector = Annotated[
    str | None,
    typer.Option(
        "--pgvector",
        metavar="URL",
        help="Or: a PostgreSQL database with pgvector. PGPASSWORD may have the password.",
    ),
]
Layout = Annotated[
    str,
    typer.Option(help="How the collections and rows are named: plain, tldw or langchain."),
]
Collections = Annotated[
    list[str] | None,
    typer.Option("--collection", metavar="NAME", help="Only this one. May be repeated.", show_default="all"),
]
DocumentKey = Annotated[
    str | None,
    typer.Option("--document-key", metavar="KEY", help="The metadata that rows of one document share."),
]
ModelsOf = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        metavar="[THEIRS=]NAME",
        help="The configured model that made the vectors; THEIRS is what the source calls it.",
        show_default="by its name",
    ),
]
TextFrom = Annotated[
    str | None,
    typer.Option(
        "--text-from",
        metavar="sqlite:PATH",
        help="Take the texts from a media database of tldw_server. {tenant} stands for the tenant.",
        show_default="the rows",
    ),
]
Sample = Annotated[
    int, typer.Option(min=1, help="How many rows of each group are embedded again and compared.")
]
LeastCosine = Annotated[
    float, typer.Option(min=-1.0, max=1.0, help="At this cosine two vectors count as the same.")
]
EmbedWrong = Annotated[
    bool, typer.Option("--embed-wrong", help="Embed a group again whose vectors are wrong.")
]
LeaveDeleted = Annotated[
    bool, typer.Option("--leave-deleted", help="Leave out documents that were deleted here.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and what it would cost.")]
