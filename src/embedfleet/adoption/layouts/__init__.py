"""The layouts of sources, one file each. To add one, write a file here and a line in `LAYOUTS`.

May import: views, tracking, administration and below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from embedfleet.adoption.layout import LayoutOptions, SourceLayout
from embedfleet.adoption.layouts.langchain import LangChainLayout
from embedfleet.adoption.layouts.plain import PlainLayout
from embedfleet.adoption.layouts.tldw import TldwLayout
from embedfleet.errors import InvalidRequest, hint

LAYOUTS: Mapping[str, Callable[[LayoutOptions], SourceLayout]] = {
    "plain": PlainLayout,
    "tldw": TldwLayout,
    "langchain": LangChainLayout,
}


def layout_of(name: str, options: LayoutOptions) -> SourceLayout:
    """Return the layout of this name. Raises InvalidRequest, which names the nearest one."""
    if name not in LAYOUTS:
        raise InvalidRequest(f"unknown layout `{name}`: {hint(name, LAYOUTS)}", field="layout")
    return LAYOUTS[name](options)
