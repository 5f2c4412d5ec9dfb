"""The layouts, by the name in the settings. To add one, write a module beside this and a line here.

May import: lifecycle, tokenising, joining, explanation, interactive and below.
"""

from __future__ import annotations

from collections.abc import Mapping

from embedfleet.errors import ConfigError, hint
from embedfleet.views.layout import Layout
from embedfleet.views.layouts.langchain import LangChainLayout
from embedfleet.views.layouts.tldw import TldwLayout

LAYOUTS: Mapping[str, Layout] = {
    "tldw": TldwLayout(),
    "langchain": LangChainLayout(),
}


def layout_named(name: str) -> Layout:
    """Return the layout of this name. Raises ConfigError, which names the nearest one."""
    if name not in LAYOUTS:
        raise ConfigError(f"setting `vector_store.views`: unknown layout `{name}`: {hint(name, LAYOUTS)}")
    return LAYOUTS[name]
