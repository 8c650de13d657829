"""The application: `create_app` builds it from settings, release, services and routes."""

import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

import app
from app import problems
from app.access import Access
from app.limits import BodyLimit
from app.logs import fields
from app.metrics import Metrics
from app.release import read_release
from app.routes import faults, items, operations, sessions
from app.services import build
from app.settings import Settings, environment, load_settings

log = logging.getLogger("app")


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the ASGI app of one worker. Raise SettingsError, or any import error of a broken release."""
    settings = settings or load_settings()
    release = read_release(settings.release_dir, faults_enabled=settings.faults_enabled)
    release.require_variables(environment())
    release.import_modules()
    metrics = Metrics()
    services = build(settings, release, metrics)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with services.running():
            metrics.begin(release.version, time.time())
            log.info("worker ready", extra=fields(release=release.version, redis="up" if services.link.up else "down"))
            yield

    api = FastAPI(title="The bundled app", version=app.__version__, lifespan=lifespan)
    api.state.services = services
    problems.install(api, metrics)
    api.add_middleware(BodyLimit)
    api.add_middleware(Access, metrics=metrics)
    routes = [items.router, sessions.router, operations.router]
    for router in [*routes, faults.router] if settings.faults_enabled else routes:
        api.include_router(router)
    return api
