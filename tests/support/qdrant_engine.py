"""A server that speaks as much of Qdrant's HTTP API as the vector store over Qdrant uses.

`python -m support.qdrant_engine DIRECTORY PORT [KEY]`. No registry of packages has a Qdrant server. So rows,
indexes, filters, conditions, searches and the log are those of Qdrant's own engine, from the package
`qdrant-edge-py`: one shard for each collection. Only the HTTP in front of it is ours: it checks requests
by the models of Qdrant's client, which are made from the API of its server. What it cannot show is what a
server has beside its shards: replicas, optimisers in the background, limits of requests.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import unquote

import qdrant_edge as edge
import uvicorn
from pydantic import TypeAdapter, ValidationError
from qdrant_client import models
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

VERSION = "1.20.0"

_DISTANCES = {models.Distance.COSINE: edge.Distance.Cosine, models.Distance.DOT: edge.Distance.Dot}
_MODES = {
    models.UpdateMode.UPSERT: edge.UpdateMode.Upsert,
    models.UpdateMode.INSERT_ONLY: edge.UpdateMode.InsertOnly,
    models.UpdateMode.UPDATE_ONLY: edge.UpdateMode.UpdateOnly,
}
_INSERTS: TypeAdapter[Any] = TypeAdapter(models.PointInsertOperations)
_SELECTORS: TypeAdapter[Any] = TypeAdapter(models.PointsSelector)


class Refused(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Collections:
    """The shards of a directory, each with the name of its collection."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._shards = {path.name: edge.EdgeShard.load(str(path)) for path in directory.iterdir()}

    def __contains__(self, name: str) -> bool:
        return name in self._shards

    def names(self) -> list[str]:
        return sorted(self._shards)

    def of(self, name: str) -> edge.EdgeShard:
        if name not in self._shards:
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")
        return self._shards[name]

    def create(self, name: str, wanted: models.CreateCollection) -> None:
        if name in self._shards:
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        assert isinstance(wanted.vectors, models.VectorParams)
        graph = wanted.hnsw_config or models.HnswConfigDiff()
        config = edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(
                size=wanted.vectors.size, distance=_DISTANCES[wanted.vectors.distance]
            ),
            hnsw_config=edge.HnswIndexConfig(
                m=16 if graph.m is None else graph.m,
                ef_construct=100,
                full_scan_threshold=10_000,
                payload_m=graph.payload_m,
            ),
        )
        self._shards[name] = edge.EdgeShard.create(str(self._directory / name), config)

    def drop(self, name: str) -> None:
        self.of(name).close()
        del self._shards[name]
        shutil.rmtree(self._directory / name)

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()


def upsert(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = _INSERTS.validate_json(body)
    if isinstance(wanted, models.PointsBatch):
        batch = wanted.batch
        assert batch.payloads is not None
        rows = list(zip(batch.ids, batch.vectors, batch.payloads, strict=True))
    else:
        rows = [(point.id, point.vector, point.payload) for point in wanted.points]
    operation = edge.UpdateOperation.upsert_points(
        [edge.Point(row_id, vector, payload) for row_id, vector, payload in rows],
        condition=None if wanted.update_filter is None else filter_of(wanted.update_filter),
        update_mode=_MODES[wanted.update_mode or models.UpdateMode.UPSERT],
    )
    shard.update(operation)
    return done()


def delete(shard: edge.EdgeShard, body: bytes) -> Any:
    chosen = _SELECTORS.validate_json(body)
    if isinstance(chosen, models.PointIdsList):
        shard.update(edge.UpdateOperation.delete_points(list(chosen.points)))
    else:
        shard.update(edge.UpdateOperation.delete_points_by_filter(filter_of(chosen.filter)))
    return done()


def update_in_batch(shard: edge.EdgeShard, body: bytes) -> Any:
    answers = []
    for operation in models.UpdateOperations.model_validate_json(body).operations:
        assert isinstance(operation, models.SetPayloadOperation)
        wanted = operation.set_payload
        assert wanted.filter is not None
        shard.update(edge.UpdateOperation.set_payload_by_filter(filter_of(wanted.filter), wanted.payload))
        answers.append(done())
    return answers


def create_index(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = models.CreateFieldIndex.model_validate_json(body)
    assert isinstance(wanted.field_schema, models.KeywordIndexParams)
    params = edge.KeywordIndexParams(is_tenant=wanted.field_schema.is_tenant)
    shard.update(edge.UpdateOperation.create_field_index(wanted.field_name, params))
    return done()


def retrieve(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = models.PointRequest.model_validate_json(body)
    found = shard.retrieve(list(wanted.ids), payload_of(wanted.with_payload), bool(wanted.with_vector))
    return [record(point) for point in found]


def scroll(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = models.ScrollRequest.model_validate_json(body)
    assert isinstance(wanted.filter, models.Filter)
    request = edge.ScrollRequest(
        offset=wanted.offset,
        limit=wanted.limit,
        filter=filter_of(wanted.filter),
        with_payload=payload_of(wanted.with_payload),
        with_vector=bool(wanted.with_vector),
    )
    found, after = shard.scroll(request)
    return {
        "points": [record(point) for point in found],
        "next_page_offset": None if after is None else str(after),
    }


def count(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = models.CountRequest.model_validate_json(body)
    assert isinstance(wanted.filter, models.Filter)
    request = edge.CountRequest(filter=filter_of(wanted.filter), exact=bool(wanted.exact))
    return {"count": shard.count(request)}


def query(shard: edge.EdgeShard, body: bytes) -> Any:
    wanted = models.QueryRequest.model_validate_json(body)
    nearest = wanted.query.nearest if isinstance(wanted.query, models.NearestQuery) else wanted.query
    assert isinstance(nearest, list)
    assert isinstance(wanted.filter, models.Filter)
    params = wanted.params or models.SearchParams()
    request = edge.SearchRequest(
        query=edge.Query.Nearest(list(nearest)),
        filter=filter_of(wanted.filter),
        params=edge.SearchParams(hnsw_ef=params.hnsw_ef, exact=bool(params.exact)),
        limit=wanted.limit or 10,
        with_payload=payload_of(wanted.with_payload),
        with_vector=False,
    )
    found = shard.search(request)
    return {
        "points": [
            {"id": str(hit.id), "version": hit.version, "score": hit.score, "payload": hit.payload}
            for hit in found
        ]
    }


def info(shard: edge.EdgeShard, _body: bytes) -> Any:
    """The engine has no optimisers in the background, so none has anything to do."""
    held = shard.info()
    config = models.CollectionConfig(
        params=models.CollectionParams(),
        hnsw_config=models.HnswConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        optimizer_config=models.OptimizersConfig(default_segment_number=0, flush_interval_sec=5),
    )
    return models.CollectionInfo(
        status=models.CollectionStatus.GREEN,
        optimizer_status=models.OptimizersStatusOneOf.OK,
        points_count=held.points_count,
        indexed_vectors_count=held.indexed_vectors_count,
        segments_count=held.segments_count,
        config=config,
        payload_schema={},
    ).model_dump(mode="json")


def change(_shard: edge.EdgeShard, body: bytes) -> Any:
    models.UpdateCollection.model_validate_json(body)
    return True


def done() -> dict[str, Any]:
    return {"operation_id": 0, "status": "completed"}


def record(point: edge.Record) -> dict[str, Any]:
    return {"id": str(point.id), "payload": point.payload, "vector": point.vector}


def payload_of(wanted: Any) -> Any:
    return list(wanted) if isinstance(wanted, list) else bool(wanted)


def filter_of(wanted: models.Filter) -> edge.Filter:
    assert isinstance(wanted.must, list)
    return edge.Filter(must=[condition(one) for one in wanted.must])


def condition(wanted: object) -> Any:
    if isinstance(wanted, models.HasIdCondition):
        return edge.HasIdCondition(set(wanted.has_id))
    assert isinstance(wanted, models.FieldCondition)
    if isinstance(wanted.match, models.MatchAny):
        return edge.FieldCondition(key=wanted.key, match=edge.MatchAny(list(wanted.match.any)))
    assert isinstance(wanted.match, models.MatchValue)
    return edge.FieldCondition(key=wanted.key, match=edge.MatchValue(wanted.match.value))


OnShard: TypeAlias = Callable[[edge.EdgeShard, bytes], Any]
ON_SHARDS: Sequence[tuple[str, str, OnShard]] = (
    ("GET", "", info),
    ("PATCH", "", change),
    ("PUT", "/index", create_index),
    ("PUT", "/points", upsert),
    ("POST", "/points", retrieve),
    ("POST", "/points/delete", delete),
    ("POST", "/points/batch", update_in_batch),
    ("POST", "/points/scroll", scroll),
    ("POST", "/points/count", count),
    ("POST", "/points/query", query),
)


def application(collections: Collections, key: str | None) -> Starlette:
    """One request is served at a time, which is one of the orders that a server may choose."""

    def answering(serve: Callable[[str, bytes], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                if key is not None and key not in keys_of(request):
                    raise Refused(401, "Invalid API key or JWT")
                result = serve(unquote(request.path_params.get("name", "")), await request.body())
            except Exception as exc:  # noqa: BLE001 - the engine raises plain exceptions
                return JSONResponse(
                    {"status": {"error": said_of(exc)}, "time": 0}, status_code=status_of(exc)
                )
            return Response(
                json.dumps({"result": result, "status": "ok", "time": 0}), media_type="application/json"
            )

        return answer

    def create(name: str, body: bytes) -> bool:
        collections.create(name, models.CreateCollection.model_validate_json(body))
        return True

    def drop(name: str, _body: bytes) -> bool:
        collections.drop(name)
        return True

    def exists(name: str, _body: bytes) -> Any:
        return {"exists": name in collections}

    def listed(_name: str, _body: bytes) -> Any:
        return {"collections": [{"name": name} for name in collections.names()]}

    def on(operation: OnShard) -> Callable[[str, bytes], Any]:
        return lambda name, body: operation(collections.of(name), body)

    async def root(_request: Request) -> Response:
        return JSONResponse({"title": "qdrant - vector search engine", "version": VERSION})

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        yield
        collections.close()

    one = "/collections/{name}"
    return Starlette(
        routes=[
            Route("/", root),
            Route("/collections", answering(listed)),
            Route(one, answering(create), methods=["PUT"]),
            Route(one, answering(drop), methods=["DELETE"]),
            Route(f"{one}/exists", answering(exists)),
            *(Route(one + path, answering(on(serve)), methods=[verb]) for verb, path, serve in ON_SHARDS),
        ],
        lifespan=lifespan,
    )


def keys_of(request: Request) -> tuple[str | None, str]:
    """The two places where a server looks for its key."""
    headers = request.headers
    return headers.get("api-key"), headers.get("Authorization", "").removeprefix("Bearer ")


def said_of(exc: Exception) -> str:
    return str(exc) if isinstance(exc, Refused) else repr(exc)


def status_of(exc: Exception) -> int:
    if isinstance(exc, Refused):
        return exc.status
    if isinstance(exc, ValidationError) or "dimension error" in str(exc):
        return 400
    return 404 if "No point with id" in str(exc) else 500


def serve(directory: Path, port: int, key: str | None) -> None:
    uvicorn.run(
        application(Collections(directory), key), host="127.0.0.1", port=port, log_level="warning", workers=1
    )


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
