"""The language of a text: what a rule may rely on, and that nothing but the package is needed for it."""

from __future__ import annotations

import socket

import pytest
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from embedfleet.routing.language import language_of
from embedfleet.settings.routing import LANGUAGES

ENGLISH = (
    "The council decided on Tuesday that the new bridge will be built next year, although costs have risen. "
)
GERMAN = "Der Rat hat am Dienstag beschlossen, dass die neue Brücke im nächsten Jahr gebaut wird. "
TEXTS = {
    "en": ENGLISH,
    "de": GERMAN,
    "fr": "Le conseil a décidé mardi que le nouveau pont sera construit l'année prochaine.",
    "es": "El consejo decidió el martes que el nuevo puente se construirá el próximo año.",
    "ru": "Во вторник совет решил, что новый мост будет построен в следующем году.",
    "zh": "市议会周二决定明年修建新桥，尽管成本有所上升。",
    "ja": "市議会は火曜日、費用が増加したものの、来年新しい橋を建設することを決定した。",
}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("the detector asks the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("code", TEXTS)
def test_a_sentence_is_enough_to_be_sure(code: str) -> None:
    found = language_of(TEXTS[code])
    assert found.code == code
    assert found.confidence > 0.95
    assert language_of(TEXTS[code]) == found


@pytest.mark.parametrize("text", ["Ok, danke", "Invoice 2024", "12 334 .. 55", "", ENGLISH + GERMAN])
def test_of_a_short_or_mixed_text_it_is_not_sure(text: str) -> None:
    assert language_of(text).confidence < 0.9


def test_a_long_text_in_another_language_than_its_preface_is_not_taken_for_the_preface() -> None:
    assert language_of(ENGLISH * 40).confidence > 0.99
    mixed = language_of(ENGLISH * 60 + GERMAN * 60)
    assert mixed.confidence < 0.9
    mostly_german = language_of(ENGLISH * 10 + GERMAN * 400)
    assert mostly_german.code == "de"


def test_the_detector_knows_every_language_that_a_rule_may_name() -> None:
    known = set(LanguageIdentifier.from_model_file(MODEL_FILE).labels)
    assert {one for one in known if len(one) == 2} == set(LANGUAGES)
