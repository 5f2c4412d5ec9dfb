"""All settings: nested, frozen, validated; defaults < YAML file < environment < flags.

`embeddings_config.yaml` shows them all. An environment variable is named after the path to the field:
`EMBEDFLEET_CHUNKING__CHUNK_SIZE=500`. Unknown keys are refused with the nearest known name.

May import: document_filter and below.
"""

from __future__ import annotations

from embedfleet.settings.catalogue_file import CatalogueFile
from embedfleet.settings.experiments import ExperimentSettings
from embedfleet.settings.http import HttpSettings
from embedfleet.settings.loading import CONFIG_ENV, DEBUG_ENV, load_settings, usual_config_file
from embedfleet.settings.model_switching import GateSettings, ModelSwitchingSettings
from embedfleet.settings.models import ModelSettings, ModelsSettings, RemoteSettings
from embedfleet.settings.placement import RaySettings, ResourceSettings
from embedfleet.settings.pool_sizes import with_pool_sizes
from embedfleet.settings.pools import (
    DEFAULT_BATCH_TOKENS,
    AutoScalingSettings,
    EmbeddingPoolSettings,
    PoolSettings,
    PoolsSettings,
    ScalingPolicy,
)
from embedfleet.settings.routing import RoutingRule, RoutingRules, RoutingSettings
from embedfleet.settings.sections import EventsSettings, ParsingSettings, Settings
from embedfleet.settings.services import (
    EmbeddingCacheSettings,
    RedisSettings,
    VectorStoreSettings,
    ViewSettings,
)
from embedfleet.settings.tenants import PriceSettings, TenantsSettings, TierSettings

__all__ = [
    "CONFIG_ENV",
    "DEBUG_ENV",
    "DEFAULT_BATCH_TOKENS",
    "AutoScalingSettings",
    "CatalogueFile",
    "EmbeddingCacheSettings",
    "EmbeddingPoolSettings",
    "EventsSettings",
    "ExperimentSettings",
    "GateSettings",
    "HttpSettings",
    "ModelSettings",
    "ModelSwitchingSettings",
    "ModelsSettings",
    "ParsingSettings",
    "PoolSettings",
    "PoolsSettings",
    "PriceSettings",
    "RaySettings",
    "RedisSettings",
    "RemoteSettings",
    "ResourceSettings",
    "RoutingRule",
    "RoutingRules",
    "RoutingSettings",
    "ScalingPolicy",
    "Settings",
    "TenantsSettings",
    "TierSettings",
    "VectorStoreSettings",
    "ViewSettings",
    "load_settings",
    "usual_config_file",
    "with_pool_sizes",
]
