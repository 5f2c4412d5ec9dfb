"""A view: a layout, a place, and the model whose vectors it shows."""

from __future__ import annotations

import json
from dataclasses import dataclass

from embedfleet.settings import Settings, ViewSettings
from embedfleet.vectors.registry import view_kind
from embedfleet.vectors.view_port import ViewCollection, ViewStore
from embedfleet.views.layout import SPACE, Layout, ReaderModel, is_plain
from embedfleet.views.layouts import layout_named

_RECIPE_VERSION = 1
"""Raise it when the rows of a layout change: then each view is filled again."""


@dataclass(frozen=True, slots=True)
class View:
    """One view, ready to be written. `reader` is what its reader calls the model `model`.

    `collection_template` is the name of the collection, with `{tenant}` for the tenant; None: the layout
    names it. `place_of_each_tenant`: each tenant's collection is in a place of its own. `only_tenant` is the
    one tenant that a single collection shows; None: each tenant has a collection.
    """

    name: str
    layout: Layout
    store: ViewStore
    model: str
    reader: ReaderModel
    collection_template: str | None
    place_of_each_tenant: bool
    only_tenant: str | None
    recipe: str

    @classmethod
    def open(cls, settings: ViewSettings, default_model: str, default_tenant: str) -> View:
        """Return the view of these settings. Its store connects later; the caller closes it.

        Raises ConfigError for an unknown layout, or a url that is not valid.
        """
        layout = layout_named(settings.layout)
        model = settings.model or default_model
        store = view_kind(layout.store_kind).open_view(settings)
        reader = ReaderModel(settings.reader_provider, settings.reader_model or model)
        # With the rows of two tenants in it, each would overwrite and delete those of the other.
        single = settings.collection is not None and not any(
            "{tenant}" in template for template in (settings.collection, settings.path or "")
        )
        recipe = {
            "version": _RECIPE_VERSION,
            "layout": settings.layout,
            "place": store.place,
            "collection": settings.collection,
            "model": model,
            "reader": [reader.provider, reader.name],
            "only_tenant": default_tenant if single else None,
        }
        return cls(
            name=settings.name,
            layout=layout,
            store=store,
            model=model,
            reader=reader,
            collection_template=settings.collection,
            place_of_each_tenant="{tenant}" in (settings.path or ""),
            only_tenant=default_tenant if single else None,
            recipe=json.dumps(recipe, sort_keys=True),
        )

    def shows(self, tenant: str) -> bool:
        """Whether the view can have a collection of this tenant: its name must be plain."""
        return is_plain(tenant) and self.only_tenant in (None, tenant)

    def collection(self, tenant: str, *, dim: int = 0, space: str = "") -> ViewCollection:
        """Return the tenant's collection. `dim` and `space` count only where it is created or written."""
        template = self.collection_template
        own = self.layout.collection_metadata(dim, self.reader)
        return ViewCollection(
            tenant=tenant,
            name=self.layout.collection(tenant) if template is None else template.replace("{tenant}", tenant),
            dim=dim,
            distance=self.layout.distance,
            metadata={**own, SPACE: space},
            fixed=frozenset({*own, SPACE}),
        )


def open_views(settings: Settings) -> list[View]:
    """Return all views of the settings. Raises ConfigError as `View.open` does."""
    model, tenant = settings.models.default, settings.tenants.default_tenant
    return [View.open(one, model, tenant) for one in settings.vector_store.views]
