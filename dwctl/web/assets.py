"""Style sheet, scripts and icons: read and compressed once at start, served under a name that changes with their content.

A browser may keep what it gets under the present name for ever; under an older name (a page from before an upgrade) it gets the
present file and keeps nothing.
"""

import gzip
import hashlib
from pathlib import Path

import msgspec
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from dwctl.doorway import Public, add_route, declare, respond_error
from dwctl.errors import not_found

FOLDER = Path(__file__).resolve().parents[2] / "static"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_FOR_EVER = "public, max-age=31536000, immutable"


class _Asset(msgspec.Struct, frozen=True):
    plain: bytes
    compressed: bytes
    media_type: str


class Assets:
    """Every file below ``static/`` that a browser may ask for. ``digest`` names their content."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, _Asset] = {}
        content = hashlib.sha256()
        for path in sorted(folder.rglob("*")):
            media_type = _TYPES.get(path.suffix)
            if media_type is None or not path.is_file():
                continue
            name, plain = path.relative_to(folder).as_posix(), path.read_bytes()
            content.update(f"{name}\0{len(plain)}\0".encode() + plain)
            self._files[name] = _Asset(plain, gzip.compress(plain, 9, mtime=0), media_type)
        self.digest = content.hexdigest()[:16]

    def url(self, name: str) -> str:
        """Where a file is served. Raises KeyError for one that there is not."""
        if name not in self._files:
            raise KeyError(f"there is no static/{name}")
        return f"/static/{self.digest}/{name}"

    def register(self, app: Sanic) -> None:
        """Add the route of the files."""
        add_route(app, declare(self._serve, Public()), "/static/<digest:str>/<name:path>", ["GET", "HEAD"], "static")

    async def _serve(self, request: Request, digest: str, name: str) -> HTTPResponse:
        asset = self._files.get(name)
        if asset is None:
            return respond_error(not_found("There is no such file"))
        headers = {
            "cache-control": _FOR_EVER if digest == self.digest else "no-cache",
            "vary": "Accept-Encoding",
            "x-content-type-options": "nosniff",
            "cross-origin-resource-policy": "same-origin",
        }
        if "gzip" in request.headers.get("accept-encoding", ""):
            return HTTPResponse(asset.compressed, 200, {**headers, "content-encoding": "gzip"}, asset.media_type)
        return HTTPResponse(asset.plain, 200, headers, asset.media_type)
