"""A model that is a server, over real HTTP: exact vectors when it serves, and what becomes of texts, waits
and secrets when it does not. Time is virtual: who waits, moves the clock."""

from __future__ import annotations

import random
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from embedfleet.errors import ModelError, ModelUnavailable
from embedfleet.inference.backend import EmbeddingBackend, TokenBatch, interrupt
from embedfleet.inference.backends.remote import RemoteBackend
from embedfleet.inference.backends.remote_server import Server, server_of
from embedfleet.inference.catalogue import Catalogue
from embedfleet.inference.isolation import embed_isolated
from embedfleet.inference.model_files import bundled_tokenizer
from embedfleet.settings import ModelSettings, ModelsSettings
from support.embedding_server import DIM, Asked, EmbeddingServer, Reply, drops, says, serves, vectors_of
from support.hangs import HANG_SECONDS

TEXTS = [f"text number {n}" for n in range(10)]
KEY = "sk-very-secret"


class VirtualClock:
    """Waiting takes no time: it is only written down."""

    def __init__(self) -> None:
        self.time = 5000.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


@pytest.fixture
def server() -> Iterator[EmbeddingServer]:
    with EmbeddingServer() as server:
        yield server


@pytest.fixture
def waiting() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def replicas(server: EmbeddingServer, waiting: VirtualClock) -> Iterator[Any]:
    """Opens replicas to the server, which share what they know of it."""
    opened: list[RemoteBackend] = []
    known: dict[Any, Server] = {}

    def replica(clock: Any = None, **settings: Any) -> RemoteBackend:
        model = Catalogue(ModelsSettings(catalogue={"far": server.settings(**settings)})).describe("far")
        remote = model.settings.remote
        assert remote is not None
        if remote not in known:
            known[remote] = Server(remote, clock=clock or waiting, rng=random.Random(7))
        opened.append(RemoteBackend(model, known[remote]))
        return opened[-1]

    yield replica
    for backend in opened:
        backend.close()


def batch(texts: Sequence[str], *, tokens: int = 4, role: Any = "document") -> TokenBatch:
    ids = np.zeros(len(texts) * tokens, dtype=np.uint32)
    return TokenBatch(ids, np.full(len(texts), tokens, dtype=np.int64), tuple(texts), role)


def embed(replica: EmbeddingBackend, texts: Sequence[str], **how: Any) -> NDArray[np.float32]:
    return replica.embed_tokens(batch(texts, **how))


def assert_right(vectors: NDArray[np.float32], texts: Sequence[str] = TEXTS) -> None:
    np.testing.assert_allclose(vectors, vectors_of(texts), atol=1e-6)


def sizes(server: EmbeddingServer) -> list[int]:
    return [len(asked.texts) for asked in server.asked]


# --- the model -------------------------------------------------------------------------------------


def info_of(**settings: Any) -> Any:
    return Catalogue(ModelsSettings(catalogue={"far": ModelSettings(**settings)})).info("far")


def remote(**settings: Any) -> Any:
    return {"backend": "remote", "dim": 8, "remote": {"url": "http://here/v1", "model": "m"} | settings}


@pytest.fixture
def folder_with_tokenizer(tmp_path: Path) -> Path:
    (tmp_path / "tokenizer.json").write_bytes(bundled_tokenizer().read_bytes() + b"\n")
    return tmp_path


def test_the_name_and_the_revision_make_the_space_not_the_address(folder_with_tokenizer: Path) -> None:
    space = info_of(**remote()).space
    assert space == info_of(**remote(url="https://there/v2", api_key="k", concurrency=9)).space
    assert space == info_of(**remote() | {"path": folder_with_tokenizer}).space, "it only sizes the chunks"
    others = [
        remote(model="n"),
        remote() | {"revision": "2"},
        remote() | {"dim": 9},
        remote(send_dimensions=True),
    ]
    assert len({space, *(info_of(**other).space for other in others)}) == 5


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"backend": "remote", "dim": 8}, "`remote` is not set: it needs the server's `url` and `model`"),
        (remote() | {"dim": None}, "`dim` is not set"),
        (remote() | {"path": Path("/nowhere")}, "/nowhere/tokenizer.json: missing"),
    ],
)
def test_a_model_that_is_not_fully_described_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        info_of(**settings)


def test_the_special_tokens_that_the_server_adds_are_taken_off_the_limit() -> None:
    assert info_of(**remote() | {"max_tokens": 512}).max_tokens == 510


def test_a_file_without_certificates_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    settings = ModelSettings(**remote(url="https://here/v1", tls_ca_file=file))
    with pytest.raises(ModelError, match=f"no certificates can be read from {file}"):
        Catalogue(ModelsSettings(catalogue={"far": settings})).open("far")


def test_certificates_are_verified() -> None:
    backend = Catalogue(ModelsSettings(catalogue={"far": ModelSettings(**remote(url="https://h/v1"))})).open(
        "far"
    )
    pool = backend._client._client._transport._pool  # type: ignore[attr-defined]
    assert pool._ssl_context.verify_mode is ssl.CERT_REQUIRED
    assert pool._ssl_context.check_hostname
    backend.close()


# --- serving ---------------------------------------------------------------------------------------


def test_every_text_gets_its_own_vector_over_one_connection(replicas: Any, server: EmbeddingServer) -> None:
    replica = replicas(remote={"batch_texts": 4, "api_key": f" {KEY}\n"})
    assert_right(embed(replica, TEXTS))
    assert sizes(server) == [4, 4, 2]
    assert server.connections == 1
    first = server.asked[0]
    assert first.path == "/v1/embeddings"
    assert first.headers["authorization"] == f"Bearer {KEY}"
    assert first.body == {"model": "hashes", "encoding_format": "float", "input": TEXTS[:4]}


def test_a_shuffled_answer_is_put_in_order(replicas: Any, server: EmbeddingServer) -> None:
    def shuffled(asked: Asked) -> Reply:
        reply = serves(asked)
        return Reply(200, reply.body | {"data": reply.body["data"][::-1]})

    server.usual = shuffled
    assert_right(embed(replicas(), TEXTS))


def test_dimensions_are_asked_for_only_if_the_settings_say_so(replicas: Any, server: EmbeddingServer) -> None:
    embed(replicas(remote={"send_dimensions": True}), TEXTS[:1])
    embed(replicas(), TEXTS[:1])
    assert [asked.body.get("dimensions") for asked in server.asked] == [DIM, None]


def test_a_text_of_any_characters_arrives_as_it_is(replicas: Any, server: EmbeddingServer) -> None:
    odd = ["naïve 日本語 👩‍👩‍👧‍👦", 'quote " backslash \\ \x00 \x1b', " spaces around \n"]
    assert_right(embed(replicas(), odd), odd)
    assert list(server.asked[0].texts) == odd


def test_prefixes_go_before_the_texts_and_fewer_dimensions_come_out(server: EmbeddingServer) -> None:
    settings = server.settings(query_prefix="query: ", dimensions=4)
    replica = Catalogue(ModelsSettings(catalogue={"far": settings})).open("far")
    (vector,) = embed(replica, ["what"], role="query")
    whole = vectors_of(["query: what"])[0, :4]
    np.testing.assert_allclose(vector, whole / np.linalg.norm(whole), atol=1e-6)
    replica.close()


def test_values_that_are_not_finite_cost_their_own_text_only(replicas: Any, server: EmbeddingServer) -> None:
    def ill(asked: Asked) -> Reply:
        reply = serves(asked)
        reply.body["data"][3]["embedding"][0] = None
        return reply

    server.script.append(ill)
    outcome = embed_isolated(replicas(), batch(TEXTS))
    assert outcome.failed == {3: "the model's output is not finite"}
    assert sizes(server) == [10]


@pytest.mark.parametrize("blank", ["", " \n\t"])
def test_a_blank_text_is_refused_unasked_and_alone(
    replicas: Any, server: EmbeddingServer, blank: str
) -> None:
    outcome = embed_isolated(replicas(), batch([blank, *TEXTS]))
    assert outcome.failed == {0: "model far: a blank text has nothing to embed"}
    assert_right(outcome.vectors[1:])
    assert all(text.strip() for asked in server.asked for text in asked.texts)


def test_a_text_over_the_limit_is_refused_not_sent(replicas: Any, server: EmbeddingServer) -> None:
    with pytest.raises(ModelError, match="a text has 300 tokens"):
        embed(replicas(), TEXTS, tokens=300)
    assert server.asked == []


def test_token_ids_without_texts_are_refused(replicas: Any) -> None:
    with pytest.raises(ModelError, match="needs the texts"):
        replicas().embed_tokens(TokenBatch(np.zeros(1, dtype=np.uint32), np.array([1])))


# --- how many texts --------------------------------------------------------------------------------


def takes_at_most(most: int, status: int, message: str | None) -> Any:
    refuses = says(status, message)
    return lambda asked: serves(asked) if len(asked.texts) <= most else refuses(asked)


@pytest.mark.parametrize(
    ("status", "message"),
    [(413, None), (422, "batch size 10 > maximum allowed batch size 3"), (400, "Too many inputs")],
)
def test_a_server_that_takes_fewer_texts_gets_fewer_from_then_on_by_all_replicas(
    replicas: Any, server: EmbeddingServer, status: int, message: str | None
) -> None:
    server.usual = takes_at_most(3, status, message)
    one, other = replicas(), replicas()
    assert_right(embed(one, TEXTS))
    assert sizes(server) == [10, 5, 2, 2, 2, 2, 2]
    server.asked.clear()
    assert_right(embed(other, TEXTS))
    assert sizes(server) == [2, 2, 2, 2, 2]


def refuses_text(bad: str, status: int, message: str) -> Any:
    refuses = says(status, message)
    return lambda asked: refuses(asked) if bad in asked.texts else serves(asked)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_text_that_the_server_refuses_is_given_up_alone_in_the_servers_words(
    replicas: Any, server: EmbeddingServer, status: int
) -> None:
    server.usual = refuses_text(TEXTS[6], status, "less than 512 tokens, please")
    outcome = embed_isolated(replicas(), batch(TEXTS))
    assert list(outcome.failed) == [6]
    assert outcome.failed[6].endswith(f"answered {status} (less than 512 tokens, please)")
    assert_right(np.delete(outcome.vectors, 6, axis=0), TEXTS[:6] + TEXTS[7:])


def test_what_a_server_repeats_of_a_text_is_not_kept(replicas: Any, server: EmbeddingServer) -> None:
    server.usual = refuses_text(TEXTS[6], 400, f"cannot embed {TEXTS[6]!r}")
    outcome = embed_isolated(replicas(), batch(TEXTS))
    assert outcome.failed[6].endswith("answered 400")


def test_one_text_refused_as_if_it_were_too_many_does_not_lower_the_limit(
    replicas: Any, server: EmbeddingServer
) -> None:
    """A peer went from 64 texts a request to one, for good, over a single long text."""
    server.usual = refuses_text(TEXTS[6], 413, "")
    replica = replicas()
    outcome = embed_isolated(replica, batch(TEXTS))
    assert list(outcome.failed) == [6]
    server.asked.clear()
    embed(replica, [*TEXTS[:6], *TEXTS[7:]])
    assert sizes(server) == [9]


def test_a_server_that_refuses_everything_costs_no_text(replicas: Any, server: EmbeddingServer) -> None:
    server.usual = says(400, "Unrecognized request argument supplied: encoding_format")
    with pytest.raises(
        ModelUnavailable, match=r"refuses every text, answered 400 \(Unrecognized.*check `remote`"
    ):
        embed_isolated(replicas(), batch(TEXTS))


# --- busy ------------------------------------------------------------------------------------------


def test_all_replicas_wait_as_long_as_the_server_says(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock
) -> None:
    one, other = replicas(), replicas()
    server.script.append(says(429, retry_after="12"))
    assert_right(embed(one, TEXTS))
    assert waiting.waits == [12]
    server.script.append(says(503, retry_after="60"))
    with pytest.raises(ModelUnavailable, match=r"asked again in 60.0 s") as told:
        embed(one, TEXTS)
    assert told.value.retry_after_seconds == 60
    asked = len(server.asked)
    with pytest.raises(ModelUnavailable, match=r"answered 503.*asked again in 60.0 s"):
        embed(other, TEXTS)
    assert len(server.asked) == asked, "nobody asked meanwhile"
    waiting.time += 60
    assert_right(embed(other, TEXTS))
    assert waiting.waits == [12]


def test_without_a_time_it_is_asked_again_after_growing_bounded_pauses(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock
) -> None:
    server.script += [says(429)] * 4
    assert_right(embed(replicas(), TEXTS))
    assert len(waiting.waits) == 4
    assert all(0 < pause <= 0.5 * 2**n for n, pause in enumerate(waiting.waits))


def test_a_server_that_stays_busy_costs_a_replica_half_a_minute_at_most(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock
) -> None:
    server.usual = says(429, "slow down")
    with pytest.raises(ModelUnavailable, match=r"answered 429 \(slow down\)"):
        embed(replicas(), TEXTS)
    assert sum(waiting.waits) <= 20


def test_a_query_is_told_sooner(replicas: Any, server: EmbeddingServer, waiting: VirtualClock) -> None:
    server.script.append(says(429, retry_after="6"))
    with pytest.raises(ModelUnavailable, match=r"asked again in 6.0 s"):
        embed(replicas(), TEXTS[:1], role="query")
    assert waiting.waits == []


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [({"requests_per_minute": 60}, 9), ({"tokens_per_minute": 120}, 18)],
    ids=["requests", "tokens"],
)
def test_the_contract_is_kept(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock, limits: dict[str, float], seconds: float
) -> None:
    """Ten requests of 4 tokens: one a second, or, at 2 tokens a second, one in two."""
    assert_right(embed(replicas(remote=limits | {"batch_texts": 1}), TEXTS))
    assert sum(waiting.waits) == pytest.approx(seconds, abs=1e-3)


def test_a_turn_that_would_come_after_minutes_is_not_waited_for(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock
) -> None:
    replica = replicas(remote={"requests_per_minute": 0.2})
    embed(replica, TEXTS)
    with pytest.raises(ModelUnavailable, match="no room for more requests within its limits"):
        embed(replica, TEXTS)
    assert waiting.waits == []


# --- broken ----------------------------------------------------------------------------------------


def cut_off(asked: Asked) -> Reply:
    return Reply(200, b'{"data": [{"index": 0, "embedding": [0.1, ')


@pytest.mark.parametrize("ill", [says(500, "out of memory"), says(502), drops, cut_off])
def test_a_moment_of_trouble_is_tried_over(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock, ill: Any
) -> None:
    server.script += [ill, ill]
    assert_right(embed(replicas(), TEXTS))
    assert len(waiting.waits) == 2
    assert sum(waiting.waits) <= 1.5


def test_trouble_that_stays_is_no_texts_fault(replicas: Any, server: EmbeddingServer) -> None:
    server.usual = says(500, "CUDA out of memory")
    with pytest.raises(ModelUnavailable, match=r"model far: 127.* answered 500 \(CUDA out of memory\)"):
        embed_isolated(replicas(), batch(TEXTS))
    assert len(server.asked) == 3


def test_a_server_that_hangs_is_not_waited_for(replicas: Any, server: EmbeddingServer) -> None:
    server.gate.clear()
    with pytest.raises(ModelUnavailable, match=r"does not answer within 0.05 s"):
        embed(replicas(remote={"timeout_seconds": 0.05}), TEXTS)


def test_nobody_there_is_no_texts_fault(replicas: Any, server: EmbeddingServer) -> None:
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ModelUnavailable, match="cannot be reached"):
            embed(replicas(remote={"url": url}), TEXTS)


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "here there"])
def test_an_address_that_is_none_is_no_texts_fault(replicas: Any, host: str) -> None:
    with pytest.raises(ModelUnavailable, match="cannot be reached"):
        embed_isolated(replicas(remote={"url": f"http://{host}/v1"}), batch(TEXTS))


def test_a_server_that_fails_is_left_alone_for_growing_pauses_then_tried_by_one(
    replicas: Any, server: EmbeddingServer, waiting: VirtualClock
) -> None:
    replica = replicas()
    server.usual = says(500)
    for _ in range(2):
        with pytest.raises(ModelUnavailable):
            embed(replica, TEXTS)
    assert len(server.asked) == 5, "three tries, and two more before it is left alone"
    for pause in (1, 2, 4, 8, 10, 10):
        asked = len(server.asked)
        with pytest.raises(ModelUnavailable, match="answered 500: asked again in") as told:
            embed(replica, TEXTS)
        assert told.value.retry_after_seconds == pytest.approx(pause)
        assert len(server.asked) == asked
        waiting.time += told.value.retry_after_seconds
        with pytest.raises(ModelUnavailable):
            embed(replica, TEXTS)
        assert len(server.asked) == asked + 1
    server.usual = serves
    waiting.time += 10
    assert_right(embed(replica, TEXTS))
    assert_right(embed(replica, TEXTS))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "check `remote.api_key`"),
        (403, "check `remote.api_key`, and what it may use"),
        (404, r"answered 404 \(model not found.*check `remote.url` and `remote.model`"),
        (307, "it redirects, which is not followed: check `remote.url`"),
    ],
)
def test_what_a_person_must_look_at_is_said_at_once_and_costs_no_text(
    replicas: Any, server: EmbeddingServer, status: int, words: str
) -> None:
    server.usual = says(
        status, f"model not found, nor key {KEY[:9]}", location="http://127.0.0.1:1/v1/embeddings"
    )
    with pytest.raises(ModelUnavailable, match=words):
        embed_isolated(replicas(remote={"api_key": KEY}), batch(TEXTS))
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"model": "other"}, "answers as model `other`, not `hashes`"),
        ({"data": [{"index": n, "embedding": [0.5] * 8} for n in range(10)]}, "vectors of dimension 8"),
    ],
)
def test_vectors_of_another_model_are_never_taken_and_cost_no_text(
    replicas: Any, server: EmbeddingServer, changed: dict[str, Any], words: str
) -> None:
    server.usual = lambda asked: serves(asked, **changed)
    with pytest.raises(ModelUnavailable, match=words):
        embed_isolated(replicas(), batch(TEXTS))
    assert len(server.asked) == 1


def test_another_name_is_taken_when_the_settings_know_it(replicas: Any, server: EmbeddingServer) -> None:
    server.usual = lambda asked: serves(asked, model="snapshots/4f2a")
    assert_right(embed(replicas(remote={"answers_as": "4f2a"}), TEXTS))


def test_an_answer_without_end_does_not_fill_the_memory(replicas: Any, server: EmbeddingServer) -> None:
    server.usual = lambda asked: Reply(200, b" " * 2_000_000)
    with pytest.raises(ModelUnavailable, match="sends more than"):
        embed(replicas(), TEXTS)


@pytest.mark.parametrize(
    "ill", [says(500, f"key {KEY}"), says(400, f"key {KEY}"), says(404, f"key {KEY}"), drops]
)
def test_the_key_is_in_no_message_and_no_repr(replicas: Any, server: EmbeddingServer, ill: Any) -> None:
    replica = replicas(remote={"api_key": KEY})
    server.usual = ill
    with pytest.raises((ModelUnavailable, ModelError)) as told:
        embed(replica, TEXTS[:1])
    seen: BaseException | None = told.value
    while seen is not None:
        assert KEY not in repr(seen)
        seen = seen.__cause__ or seen.__context__
    assert KEY not in repr([vars(replica), vars(replica._client), replica._client._client.headers])


# --- several replicas ---------------------------------------------------------------------------------


class WatchedClock:
    """The machine's time, which says when somebody has begun to wait."""

    def __init__(self) -> None:
        self.someone_waits = threading.Semaphore(0)
        self.time = 0.0

    def now(self) -> float:
        return self.time

    def wait(self, changed: threading.Condition, seconds: float) -> None:
        self.someone_waits.release()
        changed.wait(60)


def in_thread(
    results: list[Any], replica: EmbeddingBackend, texts: Sequence[str], **how: Any
) -> threading.Thread:
    def run() -> None:
        try:
            results.append(embed(replica, texts, **how))
        except (ModelUnavailable, ModelError) as exc:
            results.append(exc)

    thread = threading.Thread(target=run, daemon=True)  # a test that fails leaves it waiting
    thread.start()
    return thread


def test_after_a_refusal_replicas_take_turns_and_then_go_side_by_side_again(
    replicas: Any, server: EmbeddingServer
) -> None:
    clock = WatchedClock()
    two = [replicas(clock, remote={"concurrency": 2}) for _ in range(2)]
    server.script.append(says(429, retry_after="1"))
    results: list[Any] = []
    refused = in_thread(results, two[0], TEXTS)
    assert clock.someone_waits.acquire(timeout=HANG_SECONDS)
    clock.time += 1
    server.gate.clear()
    threads = [refused, in_thread(results, two[1], TEXTS)]
    two[0]._server.wake()
    assert server.arrived.acquire(timeout=HANG_SECONDS)
    assert server.arrived.acquire(timeout=HANG_SECONDS), "the refused one and its successor"
    assert clock.someone_waits.acquire(timeout=HANG_SECONDS), "one at once: the other waits for its turn"
    assert server.most_at_once == 1
    server.gate.set()
    for thread in threads:
        thread.join()
    server.gate.clear()
    while server.arrived.acquire(blocking=False):
        pass
    threads = [in_thread(results, replica, TEXTS) for replica in two]
    assert server.arrived.acquire(timeout=HANG_SECONDS)
    assert server.arrived.acquire(timeout=HANG_SECONDS)
    assert server.most_at_once == 2
    server.gate.set()
    for thread in threads:
        thread.join()
    for vectors in results:
        assert_right(vectors)


def test_a_query_goes_before_what_has_waited_for_longer(replicas: Any, server: EmbeddingServer) -> None:
    clock = WatchedClock()
    three = [replicas(clock, remote={"concurrency": 1}) for _ in range(3)]
    server.gate.clear()
    results: list[Any] = []
    threads = [in_thread(results, three[0], TEXTS[:1])]
    assert server.arrived.acquire(timeout=HANG_SECONDS)
    threads.append(in_thread(results, three[1], TEXTS[:2]))
    assert clock.someone_waits.acquire(timeout=HANG_SECONDS)
    threads.append(in_thread(results, three[2], ["what is it?"], role="query"))
    assert clock.someone_waits.acquire(timeout=HANG_SECONDS)
    server.gate.set()
    for thread in threads:
        thread.join()
    assert [asked.texts[0] for asked in server.asked] == [TEXTS[0], "what is it?", TEXTS[0]]


def test_a_replica_that_waits_can_be_interrupted(replicas: Any, server: EmbeddingServer) -> None:
    clock = WatchedClock()
    replica = replicas(clock)
    server.script.append(says(429, retry_after="15"))
    results: list[Any] = []
    thread = in_thread(results, replica, TEXTS)
    assert clock.someone_waits.acquire(timeout=HANG_SECONDS)
    interrupt(replica)
    thread.join(HANG_SECONDS)
    assert not thread.is_alive()
    assert "being closed" in str(results[0])
    with pytest.raises(ModelUnavailable, match="being closed"):
        embed(replica, TEXTS)


def test_all_who_say_the_same_of_a_server_share_what_is_known_of_it(server: EmbeddingServer) -> None:
    one, same = server.settings(), server.settings(query_prefix="query: ")
    other = server.settings(remote={"api_key": KEY})
    assert one.remote is not None
    assert same.remote is not None
    assert other.remote is not None
    kept = server_of(one.remote)
    assert server_of(same.remote) is kept
    assert server_of(other.remote) is not kept
