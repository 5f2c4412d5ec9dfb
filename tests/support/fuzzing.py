"""Requests that Schemathesis makes from the OpenAPI document of the API, sent with a key of each kind.

    PYTHONPATH=tests python -m support.fuzzing [--cases 10000] [--seed 42]

For each operation it takes first the cases at the borders of what the document allows, then random ones:
half of these are as the document says, half are not. Every answer must be one that the document describes,
and none may be a failure of the server. It prints how many cases it made, how they were answered, and each
kind of finding once, with a command that repeats it. The exit code is 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from unittest import SkipTest

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from loguru import logger
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.core.result import Ok
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from embedfleet.administration.operator_administration import OperatorAdministration
from embedfleet.administration.schemas import KeyRequest
from embedfleet.api_keys import Scope
from support.api import Served, serving
from support.hangs import HANG_SECONDS
from support.system import make_settings

# Not that everything else than the document says is refused: Pydantic takes the text "5" for a number.
_CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.unsupported_method,
]
_MODES = list(schemathesis.GenerationMode)
# Who sends the next request. What may do more comes more often: its requests get further.
_FAR = ("all", "operator for")
_TURNS = (*_FAR, "read", *_FAR, "write", *_FAR, "admin", *_FAR, "operator", *_FAR, "none", *_FAR, "wrong")
_SCOPES = {"all": ["read", "write", "admin"], "read": ["read"], "write": ["write"], "admin": ["admin"]}
_FILE = "application/octet-stream"
_NDJSON = "application/x-ndjson"


def _lines() -> st.SearchStrategy[bytes]:
    """Lines for a bulk submission: documents, documents with a strange field, other JSON, and rubbish."""
    strange = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda deeper: st.lists(deeper) | st.dictionaries(st.text(), deeper),
        max_leaves=5,
    )
    names = st.sampled_from(["media_id", "content", "metadata", "chunking_config", "priority", "source"])
    document: st.SearchStrategy[dict[str, Any]] = st.builds(dict, media_id=st.text(), content=st.text())
    changed = st.builds(lambda one, name, value: one | {name: value}, document, names, strange)
    line = (document | changed | strange).map(lambda value: json.dumps(value).encode()) | st.binary()
    return st.lists(line, max_size=5).map(b"\n".join)


class _Session(requests.Session):
    """Reads no stream of events: it has no end."""

    def send(self, request: requests.PreparedRequest, **more: Any) -> requests.Response:
        response = super().send(request, **more | {"stream": True})
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            response._content = b""
            response.close()
        else:
            response.content  # noqa: B018 - reads all
        return response


@dataclass
class Report:
    """What came of the cases: their number, the answers by status, and each kind of finding once."""

    cases: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], str] = field(default_factory=dict)

    def text(self) -> str:
        answers = ", ".join(f"{status}: {count}" for status, count in sorted(self.statuses.items()))
        failures = sum(count for status, count in self.statuses.items() if status >= 500)
        cases = f"{self.cases} cases over {len(self.operations)} operations"
        return "\n\n".join([f"{cases}, {failures} answers of 5xx ({answers})", *self.findings.values()])


class Fuzzing:
    """Sends the cases of one OpenAPI document to one server. It blocks, so it runs on a thread of its own.

    `headers` are those of each kind of caller. `ids` are values of path parameters that exist: every second
    case has them, because random ones are never found.
    """

    def __init__(
        self,
        url: str,
        document: Mapping[str, Any],
        headers: Mapping[str, dict[str, str]],
        ids: Mapping[str, str],
    ) -> None:
        self.report = Report()
        self._url = url
        self._ids = ids
        self._headers = headers
        self._callers = itertools.cycle(_TURNS)
        schemathesis.openapi.media_type(_NDJSON, _lines())
        schemathesis.openapi.media_type(_FILE, st.binary() | st.text().map(str.encode))
        self._schema = schemathesis.openapi.from_dict(dict(document))
        self._session = _Session()

    def run(self, *, cases: int, seed: int, random: bool = True) -> Report:
        """Make about this many cases, as many of each operation, and at least this many random ones.

        Without `random` it makes only those at the borders, which takes a third of the time.
        """
        operations = self._operations()
        each = -(-cases // len(operations))
        for operation in operations:
            for case in itertools.islice(self._border_cases(operation), each // 2 if random else each):
                self._try(case)
        while random and self.report.cases < cases:
            # An operation without parameters is soon done, so the others get its share in the next round.
            seed += 1
            for operation in operations:
                self._try_random(operation, _MODES[seed % len(_MODES)], each // 4 + 1, seed)
        return self.report

    def _operations(self) -> list[APIOperation[Any, Any, Any, Any]]:
        """Return those that are described properly. The others are findings."""
        found = []
        for one in self._schema.get_all_operations():
            if isinstance(one, Ok):
                found.append(one.ok())
            else:
                self.report.findings["document", str(one.err())] = f"the document: {one.err()}"
        return found

    def _border_cases(self, operation: APIOperation[Any, Any, Any, Any]) -> Iterator[Case[Any]]:
        config = self._schema.config.generation_for(operation=operation, phase="coverage")
        return self._schema.iter_coverage_cases(operation, generation_modes=_MODES, generation_config=config)

    def _try_random(
        self,
        operation: APIOperation[Any, Any, Any, Any],
        mode: schemathesis.GenerationMode,
        count: int,
        number: int,
    ) -> None:
        @seed(number)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(mode))
        def each(case: Case[Any]) -> None:
            self._try(case)

        # An operation without parameters cannot be asked wrongly.
        with suppress(Unsatisfiable, SkipTest):
            each()

    def _try(self, case: Case[Any]) -> None:
        who = next(self._callers)
        if self.report.cases % 2:
            for name in set(case.path_parameters or ()) & set(self._ids):
                case.path_parameters[name] = self._ids[name]
        if who != "operator":  # a tenant's key with the name of another tenant gets no further
            for header in [name for name in case.headers or () if name.lower() == "x-tenant"]:
                del case.headers[header]
        name = case.operation.label
        self.report.cases += 1
        self.report.operations[name] += 1
        response = case.call(
            base_url=self._url, session=self._session, headers=dict(self._headers[who]), timeout=HANG_SECONDS
        )
        self.report.statuses[response.status_code] += 1
        if response.status_code == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
            return  # the connection says so, before there is an operation
        try:
            case.validate_response(response, checks=_CHECKS)
        except FailureGroup as group:
            for one in group.exceptions:
                self._note(name, who, case, response.status_code, one)

    def _note(self, name: str, who: str, case: Case[Any], status: int, failure: Failure) -> None:
        found = (name, f"{failure.title} {status}")
        self.report.findings.setdefault(
            found, f"{name} ({who}, {status}): {failure.title}\n{failure.message}\n{case.as_curl_command()}"
        )


async def fuzzed(served: Served, *, cases: int, seed: int, random: bool = True) -> Report:
    """Try the API of this server, which has no key yet."""
    parts = served.parts
    operator = OperatorAdministration(parts.database, parts.clock, parts.settings, actor="local")
    document = (await served.client.get("/openapi.json")).json()
    for_bob = {"X-Tenant": "bob"}
    every = (await operator.create_operator_key(KeyRequest())).key
    headers = {"none": {}, "wrong": _bearer("ef_0123456789_wrong"), "operator": _bearer(every)}
    headers["operator for"] = headers["operator"] | for_bob
    tenant = operator.of("alice")
    for name, scopes in {
        "all": ("read", "write", "admin"),
        "read": ["read"],
        "write": ["write"],
        "admin": ["admin"],
    }.items():
        made = await tenant.create_key(KeyRequest(scopes=frozenset(map(Scope, scopes))))
        headers[name] = _bearer(made.key)
    ids = await _ids(served) | {"prefix": (await tenant.create_key(KeyRequest())).info.prefix}
    fuzzing = Fuzzing(served.url, document, headers, ids)
    return await asyncio.to_thread(fuzzing.run, cases=cases, seed=seed, random=random)


async def _ids(served: Served) -> dict[str, str]:
    """Make one of everything of alice."""
    alice = served.running.jobs.of("alice")
    info = await served.running.ingest("gone", "A text.", user_id="alice")
    receipt_id = await alice.delete_document(media_id="gone")
    info = await served.running.ingest("kept", "Another text.", user_id="alice")
    await alice.record_unreadable(media_id="bad", reason="is no PDF")
    letters = await alice.list_dead_letters()
    return {
        "job_id": info.job_id,
        "media_id": "kept",
        "receipt_id": str(receipt_id),
        "dead_letter_id": str(letters[0].dead_letter_id),
        "model": "stub",
    }


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def _main(arguments: argparse.Namespace) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        async with serving(make_settings(Path(folder), tenants={"default_tier": "enterprise"})) as served:
            return await fuzzed(served, cases=arguments.cases, seed=arguments.seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=42)
    logger.remove()
    logger.add(sys.stderr, level="ERROR")
    report = asyncio.run(_main(parser.parse_args()))
    print(report.text())
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
