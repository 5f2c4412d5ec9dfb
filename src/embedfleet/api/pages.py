"""The page of the API: Swagger UI, served from the installed package. A browser asks no other host."""

from __future__ import annotations

from importlib.resources import files

from fastapi import APIRouter, FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}
# The page itself has a script that starts Swagger UI; all else comes from this server.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:"
)


def add_pages(app: FastAPI) -> None:
    """Add the page, and the files it needs."""
    router = APIRouter(include_in_schema=False)

    @router.get("/docs")
    async def docs() -> HTMLResponse:
        page = get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=app.title,
            swagger_js_url="/docs/swagger-ui-bundle.js",
            swagger_css_url="/docs/swagger-ui.css",
            swagger_favicon_url="/docs/favicon-32x32.png",
        )
        page.headers["Content-Security-Policy"] = _POLICY
        return page

    @router.get("/docs/{name}")
    def asset(name: str) -> Response:
        if name not in _TYPES:
            return Response(status_code=404)
        body = files("fastapi_swagger").joinpath("resources", name).read_bytes()
        return Response(body, media_type=_TYPES[name], headers={"Cache-Control": "max-age=86400"})

    app.include_router(router)
