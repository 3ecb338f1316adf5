"""`/api/status`, which anyone may ask, and `/metrics` for Prometheus."""

from __future__ import annotations

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, Field

from zora_core import __version__
from zora_core.api.access import Caller, needs
from zora_core.api.answers import One, one
from zora_core.api.state import Api
from zora_core.errors import DatabaseUnavailable
from zora_core.journal.state import read_state
from zora_core.models import AgentId, Role

router = APIRouter(tags=["status"])


class Status(BaseModel):
    """Whether this server can work."""

    status: Literal["ok", "unavailable"] = Field(description="True if requests can be served.")
    database: Literal["ok", "unavailable"] = Field(description="True if the database can be reached.")
    version: str = Field(description="The version of this server.")
    uptime_seconds: float = Field(description="Since this process began to serve.")


class Metrics:
    """What one process counts."""

    def __init__(self) -> None:
        """Nothing has been counted."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "zora_http_requests", "Requests by route and status.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "zora_http_request_seconds", "Time to the end of the answer.", ("method", "route"), registry=self.registry
        )
        self.watchers = Gauge("zora_event_watchers", "Open live connections.", registry=self.registry)
        self.tasks = Gauge(
            "zora_tasks", "The tenant's tasks by agent and status.", ("agent", "status"), registry=self.registry
        )
        self.unsealed = Gauge(
            "zora_journal_unsealed_entries", "The tenant's journal entries that are not sealed, up to 10,000.",
            registry=self.registry,
        )  # fmt: skip
        self.unsealed_seconds = Gauge(
            "zora_journal_unsealed_seconds", "Age in seconds of the oldest unsealed entry, which stays below 60.",
            registry=self.registry,
        )  # fmt: skip


@router.get(
    "/api/status",
    response_model=One[Status],
    name="status",
    summary="Ask whether the server is up",
    responses={503: {"model": One[Status], "description": "The database cannot serve requests"}},
)
async def status(request: Request) -> Response:
    """Whether the server and its database are up; 503 when the database is not. Needs no credential."""
    api: Api = request.app.state.api
    try:
        await api.database.value("zora_now")
        database: Literal["ok", "unavailable"] = "ok"
    except DatabaseUnavailable:
        database = "unavailable"
    uptime = round(time.monotonic() - api.started, 1)
    answer = Status(status=database, database=database, version=__version__, uptime_seconds=uptime)
    return one(answer, status=200 if database == "ok" else 503)


@router.get(
    "/metrics",
    name="metrics",
    summary="Read the figures for Prometheus",
    response_class=Response,
    responses={200: {"content": {CONTENT_TYPE_LATEST: {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, caller: Annotated[Caller, needs(Role.VIEWER)]) -> Response:
    """Figures of this process and of the caller's tenant, in Prometheus' text format."""
    counted: Metrics = request.app.state.metrics
    rows = await caller.call("agent_task_counts")
    journal = await read_state(caller.api.database, caller.principal.tenant_id)
    # Without waiting from here on: another tenant's request writes into the same figures.
    counted.watchers.set(len(caller.api.changes.subscribers))
    counted.unsealed.set(journal.unsealed)
    counted.unsealed_seconds.set(journal.late)
    counted.tasks.clear()
    for agent in AgentId:
        for state in ("pending", "in_progress", "completed", "failed"):
            counted.tasks.labels(agent.value, state).set(0)
    for row in rows:
        counted.tasks.labels(row["agent_id"], row["status"]).inc(row["tasks"])
    return Response(generate_latest(counted.registry), media_type=CONTENT_TYPE_LATEST)
