"""Queue messages: what goes in comes out, and nothing else is ever let in."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from embedfleet.errors import InvalidRequest, LaterMessage, Transient, UndecodableMessage
from embedfleet.queue_schemas import (
    CHUNK_ID_BYTES,
    CharRange,
    ChunkingConfig,
    ChunkingTask,
    DeadChunk,
    DeletionTask,
    EmbeddingTask,
    JobInfo,
    JobProgress,
    JobStatus,
    StorageTask,
    UserTier,
    pack_chunk_ids,
    unpack_chunk_ids,
)

Message = ChunkingTask | EmbeddingTask | StorageTask | DeletionTask

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
counts = st.integers(0, 2**63 - 1)
sizes = st.lists(st.integers(0, 40), max_size=6)


def chunk_id(n: int) -> str:
    return f"{n:0{2 * CHUNK_ID_BYTES}x}"


@st.composite
def embedding_tasks(draw: st.DrawFn) -> EmbeddingTask:
    lengths = draw(sizes)
    token_ids = np.arange(sum(lengths), dtype="<u4") * np.uint32(65_537)
    return EmbeddingTask(
        tenant=draw(names),
        job_id=draw(names),
        ordinal=draw(counts),
        model=draw(names),
        space=draw(names),
        chunk_ids=pack_chunk_ids([chunk_id(n) for n in range(len(lengths))]),
        lengths=np.array(lengths, dtype="<u4").tobytes(),
        token_ids=token_ids.tobytes(),
    )


@st.composite
def storage_tasks(draw: st.DrawFn) -> StorageTask:
    rows, dim = draw(st.integers(0, 5)), draw(st.integers(1, 9))
    return StorageTask(
        tenant=draw(names),
        job_id=draw(names),
        ordinal=draw(counts),
        space=draw(names),
        dim=dim,
        chunk_ids=pack_chunk_ids([chunk_id(n) for n in range(rows)]),
        vectors=np.linspace(-1, 1, rows * dim, dtype="<f4").tobytes(),
        dead=tuple(draw(st.lists(st.builds(DeadChunk, position=counts, reason=names), max_size=2))),
    )


messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(ChunkingTask, tenant=names, job_id=names),
    st.builds(DeletionTask, tenant=names, job_id=names, document_id=names),
    embedding_tasks(),
    storage_tasks(),
)


def embedding_task(**changes: Any) -> EmbeddingTask:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "job_id": "j1",
        "ordinal": 3,
        "model": "minilm",
        "space": "minilm/v1",
        "chunk_ids": pack_chunk_ids([chunk_id(1), chunk_id(2)]),
        "lengths": np.array([2, 1], dtype="<u4").tobytes(),
        "token_ids": np.array([7, 8, 9], dtype="<u4").tobytes(),
    }
    return EmbeddingTask(**(fields | changes))


def storage_task(**changes: Any) -> StorageTask:
    fields: dict[str, Any] = {
        "tenant": "acme",
        "job_id": "j1",
        "ordinal": 3,
        "space": "minilm/v1",
        "dim": 2,
        "chunk_ids": pack_chunk_ids([chunk_id(1), chunk_id(2)]),
        "vectors": np.array([[1, 0], [0, 1]], dtype="<f4").tobytes(),
        "dead": (DeadChunk(position=2, reason="not finite"),),
    }
    return StorageTask(**(fields | changes))


def repacked(message: Message, change: Callable[[dict[str, Any]], Any]) -> bytes:
    body = msgpack.unpackb(message.encode(), raw=False)
    change(body)
    packed: bytes = msgpack.packb(body)
    return packed


class TestRoundTrip:
    @given(message=messages)
    def test_every_message_decodes_to_itself(self, message: Message) -> None:
        assert type(message).decode(message.encode()) == message

    def test_arrays_come_back_with_their_type_and_shape(self) -> None:
        embedding = EmbeddingTask.decode(embedding_task().encode())
        assert embedding.chunk_id_list() == [chunk_id(1), chunk_id(2)]
        assert embedding.lengths_array().tolist() == [2, 1]
        assert embedding.token_ids_array().dtype == np.uint32
        assert embedding.token_ids_array().tolist() == [7, 8, 9]
        storage = StorageTask.decode(storage_task().encode())
        assert storage.vectors_array().dtype == np.float32
        assert storage.vectors_array().tolist() == [[1, 0], [0, 1]]
        assert not storage.vectors_array().flags.writeable

    @given(ids=st.lists(st.binary(min_size=CHUNK_ID_BYTES, max_size=CHUNK_ID_BYTES).map(bytes.hex)))
    def test_chunk_ids_unpack_to_themselves(self, ids: list[str]) -> None:
        assert unpack_chunk_ids(pack_chunk_ids(ids)) == ids

    def test_a_batch_of_no_chunks_is_a_message_too(self) -> None:
        empty = storage_task(chunk_ids=b"", vectors=b"", dead=())
        assert StorageTask.decode(empty.encode()).vectors_array().shape == (0, 2)


class TestMutations:
    """A message that is damaged on its way is refused as such, whatever the damage."""

    @given(payload=st.binary(max_size=200))
    def test_arbitrary_bytes_are_undecodable(self, payload: bytes) -> None:
        for kind in (ChunkingTask, EmbeddingTask, StorageTask, DeletionTask):
            with pytest.raises(UndecodableMessage):
                kind.decode(payload)

    def test_of_ten_thousand_damaged_messages_each_is_refused_or_still_a_valid_one(self) -> None:
        rng = random.Random(20_240_229)
        originals: list[Message] = [
            ChunkingTask(tenant="acme", job_id="j1"),
            DeletionTask(tenant="acme", job_id="j1", document_id="d1"),
            embedding_task(),
            storage_task(),
        ]
        refused = 0
        for turn in range(12_000):
            original = originals[turn % len(originals)]
            payload = bytearray(original.encode())
            for _ in range(rng.randint(1, 3)):
                place = rng.randrange(len(payload))
                match rng.randrange(3):
                    case 0:
                        payload[place] = rng.randrange(256)
                    case 1:
                        payload.insert(place, rng.randrange(256))
                    case _ if len(payload) > 1:
                        del payload[place]
            try:
                decoded = type(original).decode(bytes(payload))
            except (UndecodableMessage, LaterMessage):
                refused += 1
            else:  # another letter in a name, another token id
                assert type(original).decode(decoded.encode()) == decoded
        assert refused > 6_000

    @pytest.mark.parametrize("message", [embedding_task(), storage_task()])
    def test_a_message_cut_short_anywhere_or_followed_by_more_is_undecodable(self, message: Message) -> None:
        payload = message.encode()
        for damaged in [*(payload[:end] for end in range(len(payload))), payload + b"\0"]:
            with pytest.raises(UndecodableMessage):
                type(message).decode(damaged)

    def test_deep_nesting_is_undecodable_and_not_a_crash(self) -> None:
        with pytest.raises(UndecodableMessage):
            ChunkingTask.decode(b"\x91" * 100_000 + b"\xc0")


class TestRefusals:
    def test_a_message_of_another_kind_is_refused(self) -> None:
        with pytest.raises(UndecodableMessage, match="StorageTask: payload is not a storage message"):
            StorageTask.decode(embedding_task().encode())

    @pytest.mark.parametrize("version", [0, "1", None])
    def test_another_schema_version_is_refused_by_name(self, version: Any) -> None:
        payload = repacked(embedding_task(), lambda body: body.update(schema_version=version))
        with pytest.raises(UndecodableMessage, match=r"EmbeddingTask\.schema_version"):
            EmbeddingTask.decode(payload)

    @pytest.mark.parametrize("kind", [ChunkingTask, EmbeddingTask, StorageTask, DeletionTask])
    def test_a_message_of_a_later_release_is_left_to_its_workers(self, kind: type[Message]) -> None:
        later = {"kind": kind.kind.value, "schema_version": 4, "anything": "new"}
        with pytest.raises(LaterMessage, match=rf"{kind.__name__}\.schema_version: 4 is of a later release"):
            kind.decode(msgpack.packb(later))
        assert issubclass(LaterMessage, Transient), "put off, not given up"

    def test_a_span_is_as_long_as_its_chunks(self) -> None:
        with pytest.raises(ValidationError, match="span"):
            embedding_task(span=(4, 7))

    def test_a_missing_or_unknown_field_is_refused_by_name(self) -> None:
        with pytest.raises(UndecodableMessage, match=r"EmbeddingTask\.model: Field required"):
            EmbeddingTask.decode(repacked(embedding_task(), lambda body: body.pop("model")))
        with pytest.raises(UndecodableMessage, match=r"EmbeddingTask\.extra"):
            EmbeddingTask.decode(repacked(embedding_task(), lambda body: body.update(extra=1)))

    def test_a_wrong_type_is_refused_and_not_converted(self) -> None:
        for field, value in [
            ("job_id", 7),
            ("ordinal", "3"),
            ("ordinal", 3.0),
            ("chunk_ids", "0" * 32),
            ("model", b"minilm"),
        ]:
            payload = repacked(embedding_task(), lambda body, f=field, v=value: body.update({f: v}))  # type: ignore[misc]
            with pytest.raises(UndecodableMessage, match=rf"EmbeddingTask\.{field}"):
                EmbeddingTask.decode(payload)

    @pytest.mark.parametrize(
        "changes",
        [
            {"chunk_ids": b"\0" * 33},
            {"chunk_ids": b"\0" * 16},
            {"lengths": b"\0" * 7},
            {"lengths": np.array([2, 2], dtype="<u4").tobytes()},
            {"lengths": np.array([2**32 - 1, 4], dtype="<u4").tobytes()},  # 3, if summed in 32 bits
            {"token_ids": b"\0" * 11},
        ],
    )
    def test_arrays_of_an_embedding_task_must_agree(self, changes: dict[str, bytes]) -> None:
        with pytest.raises(ValidationError):
            embedding_task(**changes)
        with pytest.raises(UndecodableMessage):
            EmbeddingTask.decode(repacked(embedding_task(), lambda body: body.update(changes)))

    @pytest.mark.parametrize(
        "changes", [{"chunk_ids": b"\0" * 33}, {"chunk_ids": b"\0" * 16}, {"vectors": b"\0" * 15}, {"dim": 4}]
    )
    def test_arrays_of_a_storage_task_must_agree(self, changes: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            storage_task(**changes)

    def test_a_message_has_a_tenant_and_a_job(self) -> None:
        for missing in ("tenant_id", "job_id"):
            with pytest.raises(ValidationError, match=missing):
                embedding_task(**{missing: ""})

    def test_a_message_cannot_be_changed(self) -> None:
        with pytest.raises(ValidationError, match="frozen"):
            embedding_task().tenant = "other"

    def test_the_overlap_of_a_chunking_config_is_smaller_than_its_chunks(self) -> None:
        with pytest.raises(InvalidRequest, match=r"overlap \(10\) must be smaller than chunk_size \(10\)"):
            ChunkingConfig(chunk_size=10, overlap=10)


def test_job_statuses_that_end_a_job_are_these() -> None:
    assert {status for status in JobStatus if status.terminal} == {
        JobStatus.COMPLETED,
        JobStatus.COMPLETED_WITH_ERRORS,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    }


class TestStability:
    """Another release, or a user's script, reads these."""

    def test_the_wire_form_is_stable(self) -> None:
        assert storage_task().encode().hex() == (
            "8cae736368656d615f76657273696f6e03a974656e616e745f6964a461636d65a66a6f625f6964a26a31a76f"
            "7264696e616c03a47370616ec0a57370616365a96d696e696c6d2f7631a364696d02a96368756e6b5f696473"
            "c4200000000000000000000000000000000100000000000000000000000000000002a7766563746f7273c410"
            "0000803f00000000000000000000803fa663616368656400a4646561649182a8706f736974696f6e02a67265"
            "61736f6eaa6e6f742066696e697465a46b696e64a773746f72616765"
        )

    @pytest.mark.parametrize(
        ("message", "encoded"),
        [
            (
                ChunkingTask(tenant="acme", job_id="j1"),
                "84ae736368656d615f76657273696f6e01a974656e616e745f6964a461636d65a66a6f625f6964a26a31a46b"
                "696e64a86368756e6b696e67",
            ),
            (
                embedding_task(),
                "8aae736368656d615f76657273696f6e01a974656e616e745f6964a461636d65a66a6f625f6964a26a31a76f"
                "7264696e616c03a56d6f64656ca66d696e696c6da57370616365a96d696e696c6d2f7631a96368756e6b5f69"
                "6473c4200000000000000000000000000000000100000000000000000000000000000002a76c656e67746873"
                "c4080200000001000000a9746f6b656e5f696473c40c070000000800000009000000a46b696e64a9656d6265"
                "6464696e67",
            ),
            (
                storage_task(),
                "8aae736368656d615f76657273696f6e01a974656e616e745f6964a461636d65a66a6f625f6964a26a31a76f"
                "7264696e616c03a57370616365a96d696e696c6d2f7631a364696d02a96368756e6b5f696473c42000000000"
                "00000000000000000000000100000000000000000000000000000002a7766563746f7273c4100000803f0000"
                "0000000000000000803fa4646561649182a8706f736974696f6e02a6726561736f6eaa6e6f742066696e6974"
                "65a46b696e64a773746f72616765",
            ),
            (
                DeletionTask(tenant="acme", job_id="j1", document_id="d1"),
                "85ae736368656d615f76657273696f6e01a974656e616e745f6964a461636d65a66a6f625f6964a26a31ab64"
                "6f63756d656e745f6964a26431a46b696e64a864656c6574696f6e",
            ),
            (
                storage_task(),
                "8bae736368656d615f76657273696f6e02a974656e616e745f6964a461636d65a66a6f625f6964a26a31a76f"
                "7264696e616c03a47370616ec0a57370616365a96d696e696c6d2f7631a364696d02a96368756e6b5f696473"
                "c4200000000000000000000000000000000100000000000000000000000000000002a7766563746f7273c410"
                "0000803f00000000000000000000803fa4646561649182a8706f736974696f6e02a6726561736f6eaa6e6f74"
                "2066696e697465a46b696e64a773746f72616765",
            ),
        ],
        ids=["chunking", "embedding", "storage", "deletion", "storage of version 2"],
    )
    def test_what_the_release_before_queued_is_still_understood(self, message: Message, encoded: str) -> None:
        """Version 1 knew batches only whole, version 2 did not know what the cache had."""
        assert type(message).decode(bytes.fromhex(encoded)) == message

    def test_a_part_holds_its_own_chunks_and_knows_their_places(self) -> None:
        whole = embedding_task(
            chunk_ids=pack_chunk_ids([chunk_id(n) for n in range(4)]),
            lengths=np.array([2, 1, 3, 1], dtype="<u4").tobytes(),
            token_ids=np.arange(7, dtype="<u4").tobytes(),
        )
        part = EmbeddingTask.decode(whole.part(1, 3).encode())
        assert (part.span, part.first_position) == ((1, 3), 1)
        assert part.chunk_id_list() == [chunk_id(1), chunk_id(2)]
        assert part.token_ids_array().tolist() == [2, 3, 4, 5]
        last = part.part(1, 2)
        assert (last.span, last.token_ids_array().tolist()) == ((2, 3), [3, 4, 5])

    def test_the_json_form_of_a_job_is_stable(self) -> None:
        info = JobInfo(
            job_id="j1",
            tenant="acme",
            media_id="7",
            source="notes.md",
            status=JobStatus.COMPLETED_WITH_ERRORS,
            reason="1 chunk could not be embedded",
            priority=50,
            user_tier=UserTier.FREE,
            model="minilm",
            generation=2,
            chars=1_234,
            progress=JobProgress(
                chunks_total=4, chunks_embedded=3, chunks_stored=3, chunks_dead=1, sealed=True
            ),
            coverage=0.75,
            missing=(CharRange(start=10, end=20),),
            created_at=datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC),
            finished_at=datetime(2024, 2, 29, 12, 0, 1, 500_000, tzinfo=UTC),
        )
        assert json.loads(json.dumps(info.json_document())) == {
            "schema_version": 1,
            "job_id": "j1",
            "tenant_id": "acme",
            "media_id": "7",
            "source": "notes.md",
            "status": "completed_with_errors",
            "reason": "1 chunk could not be embedded",
            "priority": 50,
            "user_tier": "free",
            "model": "minilm",
            "route": None,
            "generation": 2,
            "chars": 1234,
            "progress": {
                "chunks_total": 4,
                "chunks_embedded": 3,
                "chunks_stored": 3,
                "chunks_reused": 0,
                "chunks_dead": 1,
                "sealed": True,
            },
            "coverage": 0.75,
            "missing": [{"start": 10, "end": 20}],
            "account": {"found": {}, "entries": []},
            "created_at": "2024-02-29T12:00:00Z",
            "started_at": None,
            "finished_at": "2024-02-29T12:00:01.500000Z",
            "waiting_for": None,
        }
