"""Replaces images by their descriptions, and notes those that have none."""

from __future__ import annotations

from selectolax.lexbor import LexborNode

from embedfleet.account_codes import Code
from embedfleet.parsing.draft import Draft

_WORDS_OF_A_TITLE = 3  # the description of an image in a link, or of a drawing: shorter ones name icons


def write_images(body: LexborNode, draft: Draft) -> None:
    """Replace the images of the whole page. An empty `alt` says that an image is there for its looks."""
    for drawing in reversed(body.css("svg")):
        drawing.replace_with(_text_of_drawing(drawing))
    in_links = {image.mem_id for image in body.css("a img")}
    for image in body.css("img"):
        attributes = image.attributes
        description = (attributes.get("alt") or attributes.get("title") or "").strip()
        if image.mem_id in in_links and not _is_title(description):
            description = ""
        elif not description and "alt" not in attributes:
            draft.note(Code.IMAGE, chars=None)
        image.replace_with(description)


def _text_of_drawing(drawing: LexborNode) -> str:
    """The labels in a drawing, after its title if that says more than the name of an icon."""
    texts = [" ".join(one.text().split()) for one in drawing.css("text")]
    title = drawing.css_first("title")
    titles = [" ".join(title.text().split())] if title is not None else []
    titles.append((drawing.attributes.get("aria-label") or "").strip())
    described = [one for one in titles if _is_title(one)][:1]
    return " ".join([*described, *filter(None, texts)])


def _is_title(text: str) -> bool:
    return len(text.split()) >= _WORDS_OF_A_TITLE
