"""The section of the HTTP API: where it listens, and what it takes from a client."""

from __future__ import annotations

from pydantic import Field

from embedfleet.settings.section import Section


class HttpSettings(Section):
    """The HTTP API that the extra `serve` brings."""

    host: str = Field(
        default="127.0.0.1",
        description="Address of the API. 0.0.0.0 when clients are on other hosts: make an API key first.",
    )
    port: int = Field(
        default=8080,
        ge=0,
        le=65_535,
        description="Port of the API; 0: any free one. Change it if it is taken.",
    )
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="Largest body of a request that is held in memory, such as JSON. Raise for larger texts; "
        "files and NDJSON are streamed, and files have the limit parsing.max_file_bytes.",
    )
    max_upload_chars: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        description="Most text that an uploaded file may give: it is held in memory. Raise for larger texts.",
    )
    body_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="The longest pause in the body of a request. Raise for clients on slow networks.",
    )
    max_streams: int = Field(
        default=1_000,
        ge=1,
        description="Most event streams at once. Raise if clients are refused for it, and the limit of open "
        "files with it.",
    )
    heartbeat_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Pause between the heartbeats of a stream without events. Lower it if a proxy cuts "
        "silent streams.",
    )
    embedding_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="The longest wait for the vectors of an embeddings request, or of a query in a process "
        "without workers. Raise if models take long to load.",
    )
    max_embedding_inputs: int = Field(
        default=2_048, ge=1, description="Most texts of one embeddings request. Lower to spare the model."
    )
    max_embedding_tokens: int = Field(
        default=300_000, ge=1, description="Most tokens of one embeddings request. Lower to spare the model."
    )
