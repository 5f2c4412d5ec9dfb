"""The options of `embedfleet ab`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ModelA = Annotated[str, typer.Argument(metavar="A", help="The model of the tenant's documents, or `route`.")]
ModelB = Annotated[str, typer.Argument(metavar="B", help="The model to compare with it, or `route`.")]
ExperimentId = Annotated[
    str, typer.Argument(metavar="EXPERIMENT", help="The comparison's id, as `ab list` shows it.")
]
PromotedArm = Annotated[
    str | None,
    typer.Argument(metavar="ARM", help="A model of the comparison, or `route`.", show_default="B"),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Questions = Annotated[
    Path | None,
    typer.Option(
        "--questions",
        metavar="PATH",
        help="Labelled questions: a folder as BEIR has it, or a file of TREC topics (with --qrels).",
        show_default="titles and headings of the documents",
    ),
]
Qrels = Annotated[
    Path | None,
    typer.Option("--qrels", metavar="FILE", help="TREC's file of right answers.", show_default="none"),
]
KnownItems = Annotated[
    bool, typer.Option("--known-items", help="Ask titles and headings of the documents (the default).")
]
QueryLog = Annotated[
    bool, typer.Option("--query-log", help="Ask what was searched before; what was clicked is right.")
]
Online = Annotated[
    bool, typer.Option("--online", help="Mix the hits of both models in searches, and count people's clicks.")
]
Metric = Annotated[
    str,
    typer.Option("--metric", help="What decides: ndcg, recall or mrr at a depth; overlap only describes."),
]
SmallestDifference = Annotated[
    float | None,
    typer.Option(
        "--smallest-difference", help="The smallest difference of interest.", show_default="0.02, online 0.1"
    ),
]
Power = Annotated[float, typer.Option("--power", help="With what probability it is found.")]
Days = Annotated[float, typer.Option("--days", help="It ends after this time in any case.")]
Owner = Annotated[
    str | None, typer.Option("--owner", help="Who decides by this.", show_default="the user of this machine")
]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep the second space until the comparison is ended by hand.")
]
