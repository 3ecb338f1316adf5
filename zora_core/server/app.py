"""The application: routes, errors, limits and the middleware around them."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.routing import APIRoute

from zora_core.admin import app as admin
from zora_core.admin.rendering import internal_error_page
from zora_core.api import (
    agents,
    commands,
    docs,
    errors,
    events,
    openapi,
    policies,
    records,
    schedules,
    status,
    suggestions,
    tasks,
    workflows,
)  # fmt: skip
from zora_core.api.middleware import RequestMiddleware
from zora_core.api.state import Api

# The fixed paths under /api/agents/tasks come before /{task_id}.
ROUTERS = (
    events.router, tasks.router, agents.router, commands.router, suggestions.router, policies.router, schedules.router,
    workflows.router,
    records.router, status.router,
)  # fmt: skip


def routes() -> list[APIRoute]:
    """Every HTTP route of the API."""
    return [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]


def create_app(api: Api) -> FastAPI:
    """The ASGI application that serves `api`; `api.changes.run()` must be running beside it."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.api = api
    app.state.metrics = status.Metrics()
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(docs.router)
    admin.install(app, api)
    errors.install(app)
    openapi.install(app, routes(), api.registry)
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics, error_page=internal_error_page)
    # Outermost, so that a browser also shows the answer to an unexpected error.
    if api.settings.cors_origins:
        # Without credentials: a cookie of the pages is never sent along, so that other sites cannot act for a visitor.
        app.add_middleware(
            CORSMiddleware,
            allow_origins=api.settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Last-Event-ID", "X-Request-Id"],
            expose_headers=["Location", "RateLimit", "RateLimit-Policy", "Retry-After", "X-Request-Id"],
        )
    return app
