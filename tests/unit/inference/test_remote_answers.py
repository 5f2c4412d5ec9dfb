"""What the answers of embedding servers mean: as TEI, OpenAI, infinity, Ollama and others word them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from embedfleet.inference.backends.remote_answers import (
    Answer,
    Meaning,
    UnusableAnswer,
    explained,
    is_about_batch,
    meaning_of,
    read_vectors,
    retry_after_seconds,
)


def answer(status: int, body: Any = "", **headers: str) -> Answer:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)


@pytest.mark.parametrize(
    ("given", "meaning"),
    [
        (answer(200), Meaning.SERVED),
        (answer(301), Meaning.DENIED),
        (answer(400), Meaning.REFUSED),
        (answer(401), Meaning.DENIED),
        (answer(402), Meaning.DENIED),
        (answer(403), Meaning.DENIED),
        (answer(404), Meaning.DENIED),
        (answer(408), Meaning.BROKEN),
        (answer(413), Meaning.REFUSED),
        (answer(422), Meaning.REFUSED),
        (answer(429), Meaning.BUSY),
        (answer(500), Meaning.BROKEN),
        (answer(502), Meaning.BROKEN),
        (answer(503), Meaning.BROKEN),
        (answer(503, retry_after="1"), Meaning.BUSY),
        (answer(529), Meaning.BROKEN),
    ],
    ids=lambda given: str(given.status) if isinstance(given, Answer) else "",
)
def test_a_status_says_what_to_do(given: Answer, meaning: Meaning) -> None:
    assert meaning_of(given) is meaning


@pytest.mark.parametrize(
    "given",
    [
        answer(413, b"<html><h1>413 Request Entity Too Large</h1></html>"),
        answer(422, {"error": "batch size 64 > maximum allowed batch size 32", "error_type": "Validation"}),
        answer(422, {"detail": [{"msg": "List should have at most 32 items after validation, not 64"}]}),
        answer(400, {"error": {"message": "Invalid 'input': array too long. Expected maximum length 2048"}}),
        answer(400, {"error": {"message": "Too many inputs. The max number of inputs is 16."}}),
        answer(400, {"message": "invalid request: total number of texts must be at most 96 - received 97"}),
        answer(400, {"detail": "The number of inputs exceeds the limit of 128"}),
        answer(400, {"error": {"message": "Requested 400000 tokens, max 300000 tokens per request"}}),
    ],
    ids=["nginx", "TEI", "infinity", "OpenAI", "Azure", "Cohere", "Voyage", "OpenAI, tokens together"],
)
def test_a_refusal_of_the_number_of_texts_is_told_from_that_of_one(given: Answer) -> None:
    assert is_about_batch(given)


@pytest.mark.parametrize(
    "given",
    [
        answer(413, {"error": "`inputs` must have less than 512 tokens. Given: 600", "error_type": "Valid"}),
        answer(400, {"error": {"message": "This model's maximum context length is 8192 tokens, however you "
                                          "requested 9000 tokens"}}),
        answer(400, {"error": "the input length exceeds the context length"}),
        answer(400, {"error": {"message": "Unrecognized request argument supplied: dimensions"}}),
        answer(400, b"no JSON at all"),
    ],
    ids=["TEI", "OpenAI", "Ollama", "wrong settings", "nothing said"],
)  # fmt: skip
def test_a_refusal_of_one_text_does_not_count_against_their_number(given: Answer) -> None:
    assert not is_about_batch(given)


DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": DATE}, 100),
        ({"retry-after": DATE, "date": "Sun, 06 Nov 1994 08:49:30 GMT"}, 7),
        ({"retry-after": DATE, "date": "Sun, 06 Nov 1994 09:00:00 GMT"}, 0),
        ({"retry-after": "Sun, 99 Nov 1994 08:49:37 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_by_the_servers_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers, unix_now=784111777.0 - 100) == seconds


def test_an_error_is_told_in_one_short_line() -> None:
    said = explained(answer(400, {"error": {"message": "bad\n  input " + "x" * 900}}), (), None)
    assert said.startswith("answered 400 (bad input xxx")
    assert len(said) < 250
    assert explained(answer(500, b"<html>"), (), None) == "answered 500"


@pytest.mark.parametrize(
    "message",
    [
        "cannot embed 'the secret plan of the company'",
        'input "... secret plan of the ..." is not allowed',
        "key sk-12345 has expired",
        "short",
    ],
)
def test_no_text_and_no_key_is_repeated(message: str) -> None:
    texts = ["here is the secret  plan of the company", "short."] if message != "short" else ["so short, too"]
    said = explained(answer(400, {"error": message}), texts, "sk-12345")
    if message == "short":
        assert said == "answered 400 (short)"
    else:
        assert said == "answered 400"


def test_what_fastapi_repeats_of_the_input_is_left_out() -> None:
    body = {"detail": [{"loc": ["body", "input"], "msg": "too long", "input": ["the secret plan"]}]}
    assert explained(answer(422, body), ["the secret plan"], None) == "answered 422 (too long)"


# --- vectors ---------------------------------------------------------------------------------------


def served(*vectors: Any, **more: Any) -> bytes:
    data = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    return json.dumps({"data": data, "model": "m"} | more).encode()


def read(body: bytes, texts: int = 2, *names: str) -> list[list[float]]:
    found = read_vectors(body, texts=texts, dim=2, models=names or ("m",))
    assert found.dtype == np.float32
    return [[float(value) for value in row] for row in found]


def test_rows_follow_the_index_not_the_order_of_the_answer() -> None:
    body = json.dumps({"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]})
    assert read(body.encode()) == [[1, 2], [3, 4]]
    unnumbered = json.dumps({"data": [{"embedding": [1, 2]}, {"embedding": [3, 4]}]})
    assert read(unnumbered.encode()) == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>welcome to the hotel</html>", "no embeddings in its answer"),
        (b"[" * 100_000, "no embeddings in its answer"),
        (b"[]", "no embeddings in its answer"),
        (b'{"data": null}', "no embeddings in its answer"),
        (b'{"data": [{"index": 0}, {"index": 1}]}', "no embeddings in its answer"),
        (served([1, 2]), "1 embeddings for 2 texts"),
        (served([1, 2], [3, 4], [5, 6]), "3 embeddings for 2 texts"),
        (
            json.dumps({"data": [{"index": 0, "embedding": [1, 2]}] * 2}).encode(),
            "2 embeddings for 2 texts, or not one for each",
        ),
        (served([1, 2, 3], [4, 5, 6]), "vectors of dimension 3, `dim` is 2"),
        (served([1, 2], [4, 5, 6]), "vectors of dimension 2, 3, `dim` is 2"),
        (served(["a", "b"], [1, 2]), "not numbers"),
        (served([[1], [2]], [[3], [4]]), "not numbers"),
    ],
)
def test_what_is_not_a_vector_for_each_text_is_refused(body: bytes, words: str) -> None:
    with pytest.raises(UnusableAnswer, match=words):
        read(body)


def test_values_that_are_not_finite_are_handed_on_as_such() -> None:
    ((_, first), (second, _), (third, _)) = read(served([1, None], [float("nan"), 1], [1e300, 1]), texts=3)
    assert math.isnan(first)
    assert math.isnan(second)
    assert math.isinf(third)


@pytest.mark.parametrize("made_by", ["BAAI/bge-m3", "bge-m3", "/data/models/BGE-M3/", "bge-m3:latest", None])
def test_a_path_or_a_tag_is_the_same_model(made_by: str | None) -> None:
    assert read(served([1, 2], [3, 4], model=made_by), 2, "BAAI/bge-m3")


@pytest.mark.parametrize("made_by", ["bge-m3-retromae", "bge-large", "text-embedding-3-large", ""])
def test_vectors_of_another_model_are_refused_unless_the_settings_know_the_name(made_by: str) -> None:
    body = served([1, 2], [3, 4], model=made_by)
    with pytest.raises(UnusableAnswer, match="another model's vectors must not be mixed in") as refused:
        read(body, 2, "BAAI/bge-m3")
    assert refused.value.other_model
    assert read(body, 2, "BAAI/bge-m3", made_by)
