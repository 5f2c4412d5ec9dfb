"""Sends files to a server, which reads them and submits their texts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from embedfleet.errors import EmptyDocument, InputError, ParseError, QuotaExceeded
from embedfleet.ingest.intake import Admitted, Empty, IngestOptions, Refused, Taken, Unreadable, over_budget
from embedfleet.queue_schemas import DocumentEstimate, EstimateState
from embedfleet.waiting import cancel_and_wait

if TYPE_CHECKING:
    from embedfleet.client import AsyncClient
    from embedfleet.client.calls.defaults import Defaults
    from embedfleet.ingest.files import File
    from embedfleet.lifecycle.estimates import Budget

# While one file is read on the server, the next ones are on their way.
_AT_ONCE = 4


class ServedIntake:
    """The intake of a server, for the tenant of the client."""

    def __init__(self, client: AsyncClient, defaults: Defaults, *, budget: Budget | None = None) -> None:
        """With a `budget`, what is submitted costs no more than that."""
        self._budget = budget
        self._client = client
        self._defaults = defaults

    @property
    def jobs(self) -> AsyncClient:
        return self._client

    @property
    def default_model(self) -> str:
        return self._defaults.model

    @property
    def ocr(self) -> bool:
        return self._defaults.ocr

    def knows_model(self, name: str) -> bool:
        return name in self._defaults.models

    async def take(self, files: Sequence[File], options: IngestOptions) -> AsyncGenerator[Taken, None]:
        """Send files, as `Intake.take` says. Raises StorageFull, AccessDenied, Transient.

        Raises OverBudget for the first file that costs more than is left of the budget.
        """
        left = deque(files)
        sent: deque[asyncio.Task[Taken]] = deque()
        cancelled: asyncio.CancelledError | None = None
        try:
            while sent or (left and cancelled is None):
                # What a file costs is known before the next one may spend what is left.
                at_once = _AT_ONCE if self._budget is None else 1
                while left and cancelled is None and len(sent) < at_once:
                    sent.append(asyncio.create_task(self._send(left.popleft(), options)))
                try:
                    # Not cancelled with the caller: the jobs may exist already, and must be told of.
                    await asyncio.wait([sent[0]])
                except asyncio.CancelledError as exc:
                    cancelled = exc
                yield await sent.popleft()
        finally:
            await cancel_and_wait(*sent)
        if cancelled is not None:
            raise cancelled

    async def estimate(
        self, files: Sequence[File], options: IngestOptions
    ) -> AsyncGenerator[DocumentEstimate, None]:
        """Estimate files, as `Estimating.estimate` says. Raises UnknownModel, AccessDenied, Transient."""
        for file in files:
            try:
                yield await self._estimated(file, options, cut=True)
            except ParseError as exc:
                yield DocumentEstimate(
                    media_id=file.media_id,
                    source=file.source,
                    model=file.model or self.default_model,
                    state=EstimateState.UNREADABLE,
                    error=str(exc),
                )

    async def _estimated(self, file: File, options: IngestOptions, *, cut: bool) -> DocumentEstimate:
        return await self._client.estimate_upload(
            file.source,
            media_id=file.media_id,
            chunking_config=options.chunking,
            model=file.model,
            strict=options.strict,
            cut=cut,
        )

    async def _spend(self, file: File, options: IngestOptions) -> None:
        """Spend what the file costs, if there is a budget. Raises OverBudget. No text costs nothing."""
        if self._budget is None:
            return
        with suppress(ParseError):
            estimate = await self._estimated(file, options, cut=False)
            if over := over_budget(self._budget, file, estimate):
                raise over

    async def _send(self, file: File, options: IngestOptions) -> Taken:
        try:
            await self._spend(file, options)
            made = await self._client.upload(
                file.source,
                media_id=file.media_id,
                chunking_config=options.chunking,
                priority=options.priority,
                model=file.model,
                strict=options.strict,
                metadata=file.metadata,
                keep_unreadable=True,
            )
        except EmptyDocument:
            return Empty()
        except (InputError, QuotaExceeded) as exc:
            return Refused(str(exc))
        except OSError as exc:
            return Refused(f"{file.source}: cannot be read ({exc.strerror or exc}): check its permissions")
        if made.unreadable is not None:
            return Unreadable(made.job_id, made.unreadable)
        return Admitted(made.job_id)
