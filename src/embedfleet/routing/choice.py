"""Which model a document gets, and why: the one place where this is decided."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property

from embedfleet.document_metadata import Metadata
from embedfleet.routing.language import Language, language_of
from embedfleet.routing.metadata_match import meets
from embedfleet.settings import ModelsSettings
from embedfleet.settings.routing import RoutingRule


@dataclass(frozen=True)
class Content:
    """What rules look at. `metadata` is what the document will have."""

    content_type: str
    text: str
    source: str | None
    metadata: Metadata
    detect: Callable[[str], Language] = language_of

    @cached_property
    def language(self) -> Language:
        """The language of the text. It is found only if a rule asks, and once."""
        return self.detect(self.text)


@dataclass(frozen=True, slots=True)
class TenantRouting:
    """What a tenant has of its own: its rules, and the model of documents that no rule matches."""

    rules: Sequence[RoutingRule] = ()
    model: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """The model of a document, and the reason in one line; None if the caller named the model.

    `by` is the part of the reason that many documents share: the rule, or which model no rule chose.
    """

    model: str
    reason: str | None
    by: str = field(default="", compare=False)


NOTHING_OWN = TenantRouting()
"""Of a tenant that has no rules and no model of its own."""


def choose(content: Content, named: str | None, own: TenantRouting, settings: ModelsSettings) -> Route:
    """Choose the model of a document.

    The order is: the model that the caller names, the tenant's rules, the rules of the settings, the tenant's
    model, the default model. Of rules, the first one that matches counts.
    """
    if named is not None:
        return Route(named, None)
    missed: list[str] = []
    for whose, rules in ((" of the tenant", own.rules), ("", settings.routing.rules)):
        for number, rule in enumerate(rules, start=1):
            title = f"rule {number}{whose}"
            outcome = _look(rule, content, settings.routing.least_confidence)
            if outcome.matches:
                return Route(rule.model, f"{title}: {outcome.why}", title)
            if outcome.why:
                missed.append(f"{title}: {outcome.why}")
    model, which = fallback(own, settings)
    if not (own.rules or settings.routing.rules):
        return Route(model, which, which)
    almost = f" ({'; '.join(missed)})" if missed else ""
    return Route(model, f"no rule matched{almost}: {which}", which)


def fallback(own: TenantRouting, settings: ModelsSettings) -> tuple[str, str]:
    """Return the model of documents that no rule matches, and what it is in words."""
    if own.model is not None:
        return own.model, "the tenant's model"
    return settings.default, "default model"


def candidates(own: TenantRouting, settings: ModelsSettings) -> list[str]:
    """Return every model that `choose` may choose for a caller who names none."""
    rules = (*own.rules, *settings.routing.rules)
    return list(dict.fromkeys([*(rule.model for rule in rules), fallback(own, settings)[0]]))


def asks_for_metadata(own: TenantRouting, settings: ModelsSettings) -> bool:
    """Whether a rule looks at metadata."""
    return any(rule.where is not None for rule in (*own.rules, *settings.routing.rules))


@dataclass(frozen=True, slots=True)
class _Outcome:
    """Whether a rule matches, and why; for one that does not match, why not if that is worth telling."""

    matches: bool
    why: str = ""


_NO = _Outcome(matches=False)


def _look(rule: RoutingRule, content: Content, least_confidence: float) -> _Outcome:
    """Compare the document with the rule. The language comes last, since it is the dearest to find."""
    found: list[str] = []
    if rule.content_types:
        if content.content_type not in rule.content_types:
            return _NO
        found.append(f"content type is {content.content_type}")
    if rule.least_chars is not None or rule.most_chars is not None:
        chars = len(content.text)
        if not (rule.least_chars or 0) <= chars <= (chars if rule.most_chars is None else rule.most_chars):
            return _NO
        found.append(f"it has {chars:,} characters")
    if rule.source is not None:
        if content.source is None or not fnmatchcase(content.source, rule.source):
            return _NO
        found.append(f"source is like {rule.source}")
    if rule.condition is not None:
        if not meets(content.metadata, rule.condition):
            return _NO
        found.append("metadata is as asked")
    if rule.languages:
        language = content.language
        if language.code not in rule.languages:
            return _NO
        if language.confidence < least_confidence:
            # Rounded down, so that a value below the least one never looks like it.
            sure = int(language.confidence * 100) / 100
            return _Outcome(
                False, f"language may be {language.code} ({sure:.2f}, needs {least_confidence:g})"
            )
        found.append(f"language is {language.code} ({language.confidence:.2f})")
    return _Outcome(True, ", ".join(found) or "every document")
