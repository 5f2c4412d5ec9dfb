"""The models and the collections of the server."""

from __future__ import annotations

from embedfleet.client.calls.reading import entries
from embedfleet.client.steps import Ask, Steps
from embedfleet.inference.model_list import ListedModel
from embedfleet.queue_schemas import CollectionInfo


def catalogue() -> Steps[list[ListedModel]]:
    """Return the models with which the server can embed, by name."""
    return entries(ListedModel, (yield Ask("GET", "/v1/catalogue")), "models")


def list_collections() -> Steps[list[CollectionInfo]]:
    """Return the collections, oldest first: a tenant has one for each space of vectors."""
    return entries(CollectionInfo, (yield Ask("GET", "/v1/collections")), "collections")
