"""All sections together (`Settings`), and the small ones. Every field says when to change it; units are in
the names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

import platformdirs
from pydantic import Field, SecretStr, field_validator, model_validator

from embedfleet.settings.chunking import ChunkingSettings
from embedfleet.settings.experiments import ExperimentSettings
from embedfleet.settings.http import HttpSettings
from embedfleet.settings.model_switching import ModelSwitchingSettings
from embedfleet.settings.models import ModelsSettings
from embedfleet.settings.placement import RaySettings
from embedfleet.settings.pools import AutoScalingSettings, OrchestratorSettings, PoolsSettings
from embedfleet.settings.section import Section
from embedfleet.settings.services import (
    DatabaseSettings,
    EmbeddingCacheSettings,
    RedisSettings,
    VectorStoreSettings,
)
from embedfleet.settings.tenants import PriceSettings, TenantsSettings
from embedfleet.validation import HOW_TO_ENCODE, is_encoded


class MonitoringSettings(Section):
    """Logs and metrics."""

    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="DEBUG to follow one job through the stages."
    )
    log_json: bool = Field(default=False, description="True when a log collector reads stderr.")
    metrics_port: int = Field(
        default=9090,
        ge=0,
        le=65_535,
        description="Prometheus port of the orchestrator; 0 turns it off. Change it if the port is taken.",
    )
    metrics_host: str = Field(
        default="127.0.0.1",
        description="Address of the metrics server. 0.0.0.0 when Prometheus scrapes from another host.",
    )
    max_tenants: int = Field(
        default=50,
        ge=0,
        description="Tenants with their own time series: those seen first. The others share `_other`. "
        "Raise to see more tenants.",
    )


class EventsSettings(Section):
    """How readers and receivers learn that jobs have ended."""

    webhook_url: SecretStr | None = Field(
        default=None,
        description="None: events are only read. http(s)://HOST/PATH: each event is also POSTed there.",
    )
    webhook_secret: SecretStr | None = Field(
        default=None,
        description="Signs each delivery (HMAC-SHA256). Set it if others can post to that address.",
    )
    webhook_timeout_seconds: float = Field(
        default=10.0,
        gt=0,
        description="A delivery that takes longer is tried again. Raise for a slow receiver.",
    )
    retry_base_seconds: float = Field(
        default=1.0,
        gt=0,
        description="Pause after a failed delivery; it doubles with each failure. Raise to spare the "
        "receiver.",
    )
    retry_max_seconds: float = Field(
        default=60.0,
        gt=0,
        description="The longest pause between deliveries. Raise for a receiver that is often away.",
    )
    keep_days: float = Field(
        default=7.0,
        gt=0,
        description="How long events can be read. Raise if readers are away longer.",
    )

    @model_validator(mode="after")
    def _can_be_posted_to(self) -> Self:
        if self.webhook_url is not None:
            url = self.webhook_url.get_secret_value()
            if not is_encoded(url):
                raise ValueError(
                    f"webhook_url has a special character in its user or password: {HOW_TO_ENCODE}"
                )
            address = urlsplit(url)
            if address.scheme not in ("http", "https") or not address.hostname:
                raise ValueError("webhook_url must be http://HOST/PATH or https://HOST/PATH")
        if self.retry_base_seconds > self.retry_max_seconds:
            raise ValueError("retry_base_seconds must not be above retry_max_seconds")
        return self


class ParsingSettings(Section):
    """Limits of the child process that turns files into text."""

    processes: int = Field(
        default=2,
        ge=1,
        description="Uploaded files that are read at once, each by a process of its own. Raise if many "
        "tenants upload large files.",
    )
    memory_mb: int = Field(
        default=2048,
        ge=128,
        description="Memory of the process that parses. Raise if large PDFs are refused.",
    )
    cpu_seconds: int = Field(
        default=120, ge=1, description="CPU time for one file. Raise if files are refused for it."
    )
    timeout_seconds: float = Field(
        default=180.0,
        gt=0,
        description="Longest time for one file; keep it above cpu_seconds. Raise on a busy machine.",
    )
    max_output_chars: int = Field(
        default=500_000_000,
        ge=1,
        description="Most text that one file may give; it stops archive bombs. Raise for larger texts.",
    )
    max_file_bytes: int = Field(
        default=1_000_000_000,
        ge=1,
        description="Larger files are refused before they are read. Raise for larger files.",
    )
    ocr: bool = Field(
        default=False,
        description="Read scanned pages by OCR, some seconds a page, within cpu_seconds. "
        "Needs the extra `ocr`.",
    )


class Settings(Section):
    """The whole configuration of a process."""

    data_dir: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("embedfleet", appauthor=False)),
        description="Directory of SQLite, Chroma and the lock. It has one running orchestrator. Put it on "
        "a local disk.",
    )
    worker_pools: PoolsSettings = PoolsSettings()
    orchestrator: OrchestratorSettings = OrchestratorSettings()
    ray: RaySettings = RaySettings()
    redis: RedisSettings = RedisSettings()
    auto_scaling: AutoScalingSettings = AutoScalingSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    http: HttpSettings = HttpSettings()
    events: EventsSettings = EventsSettings()
    database: DatabaseSettings = DatabaseSettings()
    vector_store: VectorStoreSettings = VectorStoreSettings()
    embedding_cache: EmbeddingCacheSettings = EmbeddingCacheSettings()
    models: ModelsSettings = ModelsSettings()
    model_switching: ModelSwitchingSettings = ModelSwitchingSettings()
    experiments: ExperimentSettings = ExperimentSettings()
    chunking: ChunkingSettings = ChunkingSettings()
    parsing: ParsingSettings = ParsingSettings()
    tenants: TenantsSettings = TenantsSettings()
    prices: PriceSettings = PriceSettings()

    @field_validator("data_dir")
    @classmethod
    def _require_utf8(cls, data_dir: Path) -> Path:
        # SQLite would take any bytes, but the vector store does not.
        if any("\ud800" <= character <= "\udfff" for character in str(data_dir)):
            raise ValueError("its name is not valid UTF-8: choose another directory")
        return data_dir

    @property
    def database_url(self) -> str:
        """The URL of the database, with its password: `database.url`, or SQLite in the data directory."""
        if self.database.url is not None:
            return self.database.url.get_secret_value()
        return f"sqlite:///{self.data_dir / 'embedfleet.db'}"

    def to_json(self) -> str:
        """All settings, secrets in clear text: for a pipe to a worker process, never for a log or file."""
        return json.dumps(self.model_dump(mode="python"), default=_plainly)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """The settings that `to_json` wrote."""
        return cls.model_validate_json(text)


def _plainly(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)
