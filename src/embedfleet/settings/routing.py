"""Rules that choose a model by the content of a document: the type that the settings and tenants share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from embedfleet.document_filter import Where, parsed
from embedfleet.document_metadata import shown
from embedfleet.errors import hint
from embedfleet.settings.section import Section

LANGUAGES = frozenset(
    re.findall(
        r"\w\w",
        "af am an ar as az ba be bg bn br bs ca cs cy da de dz el en eo es et eu fa fi fo fr fy ga gd gl "
        "gu ha he hi hr ht hu hy id ig is it ja jv ka kk km kn ko ku ky la lb lg ln lo lt lv mg mk ml mn "
        "mr ms mt my ne nl nn no oc om or pa pl ps pt qu ro ru rw sa se si sk sl sn so sq sr st sv sw ta "
        "te tg th tk tl tr tt ug uk ur uz vi vo wa xh yo zh zu",
    )
)
"""The languages that rules may name (ISO 639-1): those that the detector tells apart."""

MOST_RULES = 100


class RoutingRule(Section):
    """Which documents go to a model: those for which all that is given holds. Without a condition: all."""

    model: str = Field(min_length=1, max_length=256, description="The model of the documents that match.")
    content_types: tuple[Literal["text", "markdown", "code"], ...] = Field(
        default=(),
        max_length=3,
        description="One of these: text, markdown, code. Set it to give code a model of its own.",
    )
    languages: tuple[str, ...] = Field(
        default=(),
        max_length=len(LANGUAGES),
        description="One of these, as two letters (ISO 639-1): de, fr. Set it for models that know few "
        "languages.",
    )
    least_chars: int | None = Field(
        default=None, ge=0, description="At least this many characters. Set it for models of long texts."
    )
    most_chars: int | None = Field(
        default=None, ge=0, description="At most this many characters. Set it for models of short texts."
    )
    source: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="A pattern of the source: `*` is any text, also with `/`, `?` one character, `[ab]` one "
        "of these. Such as `*/contracts/*.pdf`.",
    )
    where: dict[str, Any] | None = Field(
        default=None,
        description="A condition on metadata, as filters of searches have it: {team: legal}.",
    )

    @field_validator("model", "source")
    @classmethod
    def _any_database_takes_it(cls, value: str | None) -> str | None:
        if value is not None and "\0" in value:
            raise ValueError("must not hold the character NUL")
        return value

    @field_validator("languages")
    @classmethod
    def _known_languages(cls, languages: tuple[str, ...]) -> tuple[str, ...]:
        for code in languages:
            if code not in LANGUAGES:
                raise ValueError(f"no language {shown(code)}: give two letters (ISO 639-1), such as de")
        return languages

    @field_validator("where", mode="before")
    @classmethod
    def _is_a_condition(cls, value: Any) -> Any:
        if value is not None:
            parsed(value)
        return value

    @model_validator(mode="after")
    def _some_length(self) -> Self:
        if (
            self.least_chars is not None
            and self.most_chars is not None
            and self.least_chars > self.most_chars
        ):
            raise ValueError(
                f"least_chars {self.least_chars} is more than most_chars {self.most_chars}: nothing matches"
            )
        return self

    @cached_property
    def condition(self) -> Where | None:
        """`where` as a tree."""
        return None if self.where is None else parsed(self.where)

    @property
    def matches_all(self) -> bool:
        """Whether every document matches."""
        return self == RoutingRule(model=self.model)


class RoutingRules(Section):
    """Rules in their order: the first one that matches a document chooses its model."""

    rules: tuple[RoutingRule, ...] = Field(
        default=(),
        max_length=MOST_RULES,
        description="The first rule that matches a document chooses its model, if its caller names none. "
        "Set it where models are good at different content. A tenant may have rules of its own, which come "
        "before these.",
    )

    @field_validator("rules")
    @classmethod
    def _each_can_match(cls, rules: tuple[RoutingRule, ...]) -> tuple[RoutingRule, ...]:
        for number, rule in enumerate(rules[:-1], start=1):
            if rule.matches_all:
                raise ValueError(
                    f"rule {number} matches every document, so the next one is never asked: put it last"
                )
        return rules


class RoutingSettings(RoutingRules):
    """Which model a document gets by its content, if its caller names none."""

    least_confidence: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="How sure the detector must be of a language for a rule to count: short and mixed texts "
        "are less sure. Lower if too many documents miss their rule, as the reason on the job says.",
    )


def unknown_model(rules: Sequence[RoutingRule], names: Sequence[str]) -> str | None:
    """Return what is wrong if a rule names a model that is not among `names`; None if none does."""
    for number, rule in enumerate(rules, start=1):
        if rule.model not in names:
            return f"rule {number}: no model `{rule.model}` in the catalogue: {hint(rule.model, names)}"
    return None
