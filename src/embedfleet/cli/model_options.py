"""The options of `embedfleet models add`: what an entry of the catalogue says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="What jobs and searches call it.")]
Backend = Annotated[
    str | None,
    typer.Option(help="onnx, torch, static, remote or stub.", show_default="remote with --url"),
]
Folder = Annotated[Path | None, typer.Option(help="Folder with the model's files.")]
Hub = Annotated[str | None, typer.Option(help="Hugging Face id: downloaded, and pinned.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of --hub.")]
WeightsFile = Annotated[str | None, typer.Option(help="Which ONNX file: onnx/model_quantized.onnx.")]
Pooling = Annotated[str | None, typer.Option(help="mean, cls or last.")]
Normalise = Annotated[bool | None, typer.Option(help="Vectors of length 1.")]
QueryPrefix = Annotated[str | None, typer.Option(help="Put before every query.")]
DocumentPrefix = Annotated[str | None, typer.Option(help="Put before every chunk.")]
Dimensions = Annotated[int | None, typer.Option(help="Keep this many leading dimensions (Matryoshka).")]
Dim = Annotated[int | None, typer.Option(help="Dimensions of the model itself.")]
MaxTokens = Annotated[int | None, typer.Option(help="Its limit, special tokens included.")]
Dtype = Annotated[str | None, typer.Option(help="torch: float32, float16, bfloat16.")]
Device = Annotated[
    list[str] | None, typer.Option(help="A replica's place: cpu, cuda:1, mps. May be repeated.")
]
MemoryMb = Annotated[int | None, typer.Option(help="MiB it takes when loaded.")]
Url = Annotated[str | None, typer.Option(help="Server with an OpenAI-compatible /embeddings.")]
RemoteModel = Annotated[str | None, typer.Option(help="The model's name at --url.")]
ApiKeyEnv = Annotated[str | None, typer.Option(help="Environment variable with the key for --url.")]
Description = Annotated[str | None, typer.Option(help="For people.")]
Replace = Annotated[bool, typer.Option("--replace", help="Instead of the entry of that name.")]
