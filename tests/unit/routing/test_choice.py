"""Which model a document gets, and the reason that its job shows, by table."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.document_metadata import Metadata
from embedfleet.routing.choice import NOTHING_OWN, Content, Route, TenantRouting, candidates, choose
from embedfleet.routing.language import Language
from embedfleet.settings import ModelsSettings, RoutingRule

GERMAN = Language("de", 0.98)


def content(
    *,
    text: str = "word",
    content_type: str = "text",
    source: str | None = None,
    metadata: Metadata | None = None,
    language: Language = GERMAN,
) -> Content:
    return Content(content_type, text, source, metadata or {}, detect=lambda _text: language)


def rules(*given: dict[str, Any]) -> tuple[RoutingRule, ...]:
    return tuple(RoutingRule(**one) for one in given)


def settings(*given: dict[str, Any], **more: Any) -> ModelsSettings:
    return ModelsSettings.model_validate({"default": "d", "routing": {"rules": given, **more}})


CODE = {"model": "c", "content_types": ["code"]}
IN_GERMAN = {"model": "g", "languages": ["de", "nl"]}


@pytest.mark.parametrize(
    ("document", "rule", "reason"),
    [
        (content(content_type="code"), CODE, "content type is code"),
        (content(), IN_GERMAN, "language is de (0.98)"),
        (content(text="x" * 1200), {"least_chars": 1200}, "it has 1,200 characters"),
        (content(text="xx"), {"most_chars": 2}, "it has 2 characters"),
        (content(text="xx"), {"least_chars": 2, "most_chars": 2}, "it has 2 characters"),
        (
            content(source="/a/contracts/b.pdf"),
            {"source": "*/contracts/*.pdf"},
            "source is like */contracts/*.pdf",
        ),
        (content(metadata={"team": "legal"}), {"where": {"team": "legal"}}, "metadata is as asked"),
        (content(), {}, "every document"),
        (
            content(content_type="markdown", text="xx"),
            {"content_types": ["text", "markdown"], "most_chars": 5, "languages": ["de"]},
            "content type is markdown, it has 2 characters, language is de (0.98)",
        ),
    ],
)
def test_a_rule_that_matches_gives_its_model_and_says_why(
    document: Content, rule: dict[str, Any], reason: str
) -> None:
    route = choose(document, None, NOTHING_OWN, settings({"model": "m", **rule}))
    assert route == Route(rule.get("model", "m"), f"rule 1: {reason}")


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (content(), CODE),
        (content(language=Language("fr", 1.0)), IN_GERMAN),
        (content(language=Language(None, 0.02)), IN_GERMAN),
        (content(text="xx"), {"least_chars": 3}),
        (content(text="xx"), {"most_chars": 1}),
        (content(source="/a/Contracts/b.pdf"), {"source": "*/contracts/*.pdf"}),  # case counts
        (content(source=None), {"source": "*"}),
        (content(metadata={"team": "sales"}), {"where": {"team": "legal"}}),
        (content(text="xx", content_type="code"), {"content_types": ["code"], "least_chars": 3}),
    ],
)
def test_a_rule_matches_only_if_all_of_it_holds(document: Content, rule: dict[str, Any]) -> None:
    route = choose(document, None, NOTHING_OWN, settings({"model": "m", **rule}))
    assert route == Route("d", "no rule matched: default model")


def test_the_first_rule_that_matches_counts() -> None:
    both = settings(CODE, IN_GERMAN, {"model": "m"})
    assert choose(content(content_type="code"), None, NOTHING_OWN, both).model == "c"
    assert choose(content(), None, NOTHING_OWN, both) == Route("g", "rule 2: language is de (0.98)")
    french = content(language=Language("fr", 0.99))
    assert choose(french, None, NOTHING_OWN, both) == Route("m", "rule 3: every document")


def test_the_caller_comes_first_then_the_tenants_rules_then_those_of_the_settings() -> None:
    own = TenantRouting(rules({"model": "t", "content_types": ["code"]}), "own")
    of_all = settings(CODE, IN_GERMAN)
    code, prose, french = (
        content(content_type="code"),
        content(),
        content(language=Language("fr", 0.99)),
    )
    assert choose(code, "named", own, of_all) == Route("named", None)
    assert choose(code, None, own, of_all) == Route("t", "rule 1 of the tenant: content type is code")
    assert choose(prose, None, own, of_all) == Route("g", "rule 2: language is de (0.98)")
    assert choose(french, None, own, of_all) == Route("own", "no rule matched: the tenant's model")
    assert choose(french, None, TenantRouting(), of_all) == Route("d", "no rule matched: default model")
    assert choose(french, None, TenantRouting(model="own"), settings()) == Route("own", "the tenant's model")
    assert choose(french, None, NOTHING_OWN, settings()) == Route("d", "default model")
    assert candidates(own, of_all) == ["t", "c", "g", "own"]


@pytest.mark.parametrize(
    ("confidence", "route"),
    [
        (0.9, Route("g", "rule 1: language is de (0.90)")),
        (0.8999, Route("d", "no rule matched (rule 1: language may be de (0.89, needs 0.9)): default model")),
    ],
)
def test_a_language_counts_only_if_the_detector_is_sure_and_the_reason_says_so(
    confidence: float, route: Route
) -> None:
    unsure = content(language=Language("de", confidence))
    assert choose(unsure, None, NOTHING_OWN, settings(IN_GERMAN)) == route


def test_the_language_is_looked_for_once_and_only_if_a_rule_gets_that_far() -> None:
    asked: list[str] = []

    def detect(text: str) -> Language:
        asked.append(text)
        return GERMAN

    both = settings({**IN_GERMAN, "languages": ["fr"]}, IN_GERMAN, CODE)
    choose(Content("text", "Hallo", None, {}, detect), None, NOTHING_OWN, both)
    assert asked == ["Hallo"]
    only_code = settings({**IN_GERMAN, "content_types": ["code"]})
    choose(Content("text", "Hallo", None, {}, detect), None, NOTHING_OWN, only_code)
    assert asked == ["Hallo"]
