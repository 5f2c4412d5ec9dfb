"""The list of the models of an installation, for people who choose one."""

from __future__ import annotations

from collections.abc import Collection

from pydantic import BaseModel, ConfigDict, Field

from embedfleet.errors import EmbedfleetError, Remedy
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings


class ListedModel(BaseModel):
    """A model: what it is, where it runs, and whether it can be used."""

    model_config = ConfigDict(frozen=True)

    name: str
    default: bool = Field(description="Whether it embeds documents for which none is chosen.")
    built_in: bool = Field(description="False: the settings describe it.")
    backend: str = Field(description="What runs it, such as `onnx`.")
    devices: tuple[str, ...] = Field(description="Where it may run.")
    loaded: bool | None = Field(description="Whether a running orchestrator has it loaded; null: not known.")
    description: str
    available: bool = Field(description="Whether its files are here, or its server is named.")
    reason: str | None = Field(default=None, description="Why it is not available.")
    remedy: Remedy | None = Field(default=None, description="The operation that helps.")
    dim: int | None = Field(default=None, description="The size of its vectors.")
    max_tokens: int | None = Field(default=None, description="Its longest text.")
    size_bytes: int | None = Field(default=None, description="The size of its files.")
    space: str | None = Field(default=None, description="Vectors of one space can be compared.")


def list_models(
    catalogue: Catalogue, settings: ModelsSettings, loaded: Collection[str] | None
) -> list[ListedModel]:
    """Return all models, by name. `loaded` are those that are in use; None: not known. It reads files."""
    return [_describe(name, catalogue, settings, loaded) for name in catalogue.names()]


def _describe(
    name: str, catalogue: Catalogue, settings: ModelsSettings, loaded: Collection[str] | None
) -> ListedModel:
    entry = catalogue.settings_of(name)
    model = ListedModel(
        name=name,
        default=name == settings.default,
        built_in=name not in settings.catalogue,
        backend=entry.backend,
        devices=tuple(entry.devices),
        loaded=None if loaded is None else name in loaded,
        description=entry.description,
        available=False,
    )
    try:
        info = catalogue.info(name)
    except EmbedfleetError as exc:
        return model.model_copy(update={"reason": str(exc), "remedy": exc.remedy})
    figures = {name: getattr(info, name) for name in ("dim", "max_tokens", "size_bytes", "space")}
    return model.model_copy(update={"available": True, **figures})
