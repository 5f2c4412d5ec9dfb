"""Which rules are taken, and what is said of those that are not."""

from __future__ import annotations

from typing import Any

import pytest

from embedfleet.errors import ConfigError
from embedfleet.inference.catalogue import Catalogue
from embedfleet.settings import ModelsSettings, RoutingRule, RoutingRules
from embedfleet.settings.routing import unknown_model


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"languages": ["deu"]}, "no language `deu`: give two letters"),
        ({"where": {"$team": "legal"}}, "is no operator here"),
        ({"where": {}}, "must be an object with a condition"),
        ({"least_chars": 5, "most_chars": 4}, "least_chars 5 is more than most_chars 4: nothing matches"),
        ({"content_types": ["pdf"]}, "'text', 'markdown' or 'code'"),
        ({"langauges": ["de"]}, "langauges"),
        ({"source": ""}, "at least 1 character"),
        ({"source": "a\0"}, "must not hold the character NUL"),
        ({"languages": ["\ud800"]}, "no language `\\ud800`"),
        ({"languages": ["de"] * 1_000}, "List should have at most"),
        ({"content_types": ["code"] * 4}, "List should have at most 3 items, not 4"),
        ({"languages": "de"}, "Input should be a list"),
    ],
)
def test_a_wrong_rule_is_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        RoutingRule(model="m", **rule)
    assert message in str(refused.value)


def test_a_rule_behind_one_that_matches_everything_is_refused() -> None:
    all_of_it, code = {"model": "m"}, {"model": "c", "content_types": ["code"]}
    assert len(RoutingRules.model_validate({"rules": [code, all_of_it]}).rules) == 2
    with pytest.raises(ConfigError, match="rule 1 matches every document, so the next one is never asked"):
        RoutingRules.model_validate({"rules": [all_of_it, code]})


def test_a_rule_that_names_an_unknown_model_is_found_with_its_number() -> None:
    rules = [RoutingRule(model="minilm", languages=("en",)), RoutingRule(model="statik")]
    assert unknown_model(rules[:1], ["minilm", "static"]) is None
    wrong = unknown_model(rules, ["minilm", "static"])
    assert wrong == "rule 2: no model `statik` in the catalogue: did you mean `static`?"


def test_settings_with_a_rule_for_an_unknown_model_are_refused_before_anything_starts() -> None:
    rule = {"model": "statik", "content_types": ["code"]}
    settings = ModelsSettings.model_validate({"routing": {"rules": [rule]}})
    with pytest.raises(ConfigError, match=r"`models\.routing`: rule 1: no model `statik`.*`static`\?"):
        Catalogue(settings)
