"""The sections of the services that hold data: the broker, SQL, the vector store and the embedding cache."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from embedfleet.settings.section import Section

# The kinds of vector stores that keep their rows in the data directory, if the settings name no place.
_EMBEDDED = frozenset({"chroma", "lancedb"})


class RedisSettings(Section):
    """The broker that the hosts of a fleet share."""

    url: SecretStr | None = Field(
        default=None,
        description="None: queues in process. redis://, rediss://, unix://, redis+sentinel:// or "
        "redis+cluster://: workers on any number of hosts.",
    )
    username: str | None = Field(default=None, description="ACL user. Set it here to keep it out of the url.")
    password: SecretStr | None = Field(
        default=None, description="Password. Set it here to keep it out of the url."
    )
    sentinel_username: str | None = Field(
        default=None,
        description="ACL user of the sentinels. Set it if they need another one than the server.",
    )
    sentinel_password: SecretStr | None = Field(
        default=None,
        description="Password of the sentinels. Set it if they need another one than the server.",
    )
    key_prefix: str = Field(
        default="embedfleet",
        pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="The beginning of every key. Change it when several fleets share one Redis.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, gt=0, description="Longest time to connect. Raise on a slow network."
    )
    socket_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="An answer that takes longer counts as a lost connection. Raise for a slow server.",
    )
    max_connections: int = Field(
        default=32,
        ge=2,
        description="Connections of one process. Raise when workers wait for them; lower if the server "
        "runs out of them.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Into how many queues each stage is divided, with fair shares in each. Raise it with the "
        "nodes of a Redis Cluster when one node is busy, to twice their number. It may change while work is "
        "queued: the leader's number counts.",
    )
    tls_ca_file: Path | None = Field(
        default=None,
        description="CA certificates for a rediss:// server. Set it if no public CA signed the server's.",
    )


class DatabaseSettings(Section):
    """The SQL database, from which all other data can be rebuilt."""

    url: SecretStr | None = Field(
        default=None,
        description="None: SQLite in the data directory. postgresql://USER@HOST/DATABASE: for a fleet.",
    )
    synchronous: Literal["full", "normal"] = Field(
        default="full",
        description="SQLite: `normal` is faster, but a power cut may lose the last acknowledged jobs.",
    )
    busy_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Longest wait for a lock. Raise if other programs hold write locks for long.",
    )
    pool_size: int = Field(
        default=8,
        ge=2,
        le=100,
        description="PostgreSQL: connections of one process. Lower if the server runs out of them.",
    )
    backups_kept_days: int | None = Field(
        default=None,
        ge=1,
        description="How long you keep backups of the database, for receipts of deletions: they say from "
        "when on no backup has what was deleted. None: they cannot say it.",
    )
    connect_timeout_seconds: float = Field(
        default=5.0, ge=2, description="PostgreSQL: longest time to connect. Raise on a slow network."
    )


class ViewSettings(Section):
    """A view: collections that another system reads, kept in step with the live documents."""

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$",
        description="Its name, in messages and metrics. A renamed view is filled again.",
    )
    layout: str = Field(
        description="How the reader expects its rows: `tldw` (tldw_server) or `langchain` (langchain-chroma)."
    )
    path: str | None = Field(
        default=None,
        description="The reader's Chroma directory; `{tenant}` in it stands for the tenant. Set this or "
        "`url`; a fleet needs a url.",
    )
    url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="http(s)://HOST:PORT of the Chroma server that the reader uses too. Set this or `path`.",
    )
    token: SecretStr | None = Field(
        default=None, description="Sent with every request. Set it if a proxy guards the server."
    )
    token_header: Literal["Authorization", "X-Chroma-Token"] = Field(
        default="Authorization",
        description="The header of the token; `Authorization` sends `Bearer TOKEN`. Change it if the "
        "proxy expects the other.",
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest request to the server. Raise if the server has slow disks."
    )
    collection: str | None = Field(
        default=None,
        description="The collection's name; `{tenant}` in it stands for the tenant. None: that of the "
        "layout. Change it if the reader uses another one. Without `{tenant}` here and in `path`, the view "
        "shows only the default tenant.",
    )
    model: str | None = Field(
        default=None,
        description="The model whose vectors the view shows. None: `models.default`. Set it if the reader "
        "searches with another one. Documents of other models are not in the view.",
    )
    reader_provider: str = Field(
        default="local_api",
        description="What the reader calls the provider that embeds its queries. Change it if it asks "
        "another one than this system's API.",
    )
    reader_model: str | None = Field(
        default=None,
        description="What the reader calls the model. None: the name that it has here. Set it if the reader "
        "uses another name.",
    )
    beside_reader: bool = Field(
        default=False,
        description="True: write into `path` while the reader has it open. It must then never write into "
        "these collections, and sees new vectors only after it opens them again. False: wait.",
    )


class VectorStoreSettings(Section):
    """The store that makes vectors searchable."""

    kind: str = Field(
        default="chroma",
        description="Which vector store: `chroma` is embedded or a server, `lancedb` a directory or an "
        "object store, `pgvector` is in PostgreSQL, `qdrant` a server.",
    )
    url: str | None = Field(
        default=None,
        repr=False,  # it may hold a password
        description="http(s)://HOST:PORT of a Chroma or Qdrant server, or postgresql://… for pgvector. None: "
        "an embedded store in the data directory; for pgvector the database of `database.url`.",
    )
    path: str | None = Field(
        default=None,
        repr=False,  # so may this
        description="For lancedb: a directory that all hosts see, or an object store such as "
        "s3://BUCKET/PATH. None: in the data directory, for one orchestrator.",
    )
    token: SecretStr | None = Field(
        default=None, description="Sent with every request. Set it if a proxy guards the server."
    )
    token_header: Literal["Authorization", "X-Chroma-Token"] = Field(
        default="Authorization",
        description="The header of the token; `Authorization` sends `Bearer TOKEN`. Change it if the "
        "proxy expects the other.",
    )
    timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest request to the server. Raise if the server has slow disks."
    )
    other_token: SecretStr | None = Field(
        default=None,
        description="The token of the other store, while the vectors move from one server to another. Set it "
        "if that server wants another token than this one.",
    )
    store_documents: bool = Field(
        default=True,
        description="False: texts are in SQL only. Storing is faster, but Chroma's own text filters do "
        "not work.",
    )
    exact_scan_rows: int = Field(
        default=5_000,
        ge=0,
        le=1_000_000,
        description="A search whose filter allows up to this many passages compares each of them, which is "
        "exact. Raise for exact answers to wider filters: 1,000 passages take about 0.04 s, from a server "
        "0.1 s.",
    )
    max_surplus_files: int = Field(
        default=2_000,
        ge=1,
        description="Storage waits while the store has more files that its upkeep would merge. Raise if the "
        "disk has room for bursts of small writes.",
    )
    max_unindexed_rows: int = Field(
        default=2_000_000,
        ge=1,
        description="Storage waits while more rows are in no index, as every search compares each of them. "
        "Lower for quick searches during a bulk load; raise to load first and index later.",
    )
    views: tuple[ViewSettings, ...] = Field(
        default=(),
        description="Views for others: collections in the layout of a system that reads them itself. Set "
        "one to move such a system to this one without changing how it reads.",
    )

    @property
    def in_data_directory(self) -> bool:
        """Whether the vectors are in the data directory, so that one orchestrator owns them."""
        return self.kind in _EMBEDDED and self.url is None and self.path is None


class EmbeddingCacheSettings(Section):
    """Vectors kept in SQL, by tenant, model and text."""

    enabled: bool = Field(
        default=True,
        description="False: the cache is neither read nor written, and its rows stay. For texts that "
        "never repeat.",
    )
    max_mb_per_tenant: int = Field(
        default=1024,
        ge=1,
        description="Size of a tenant's cache; the longest unused vectors go first. Raise to rebuild more "
        "without a model.",
    )
