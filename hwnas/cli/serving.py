"""A web server for one folder, for the reader at this machine: 127.0.0.1 only, files of the folder only. Reads those files.

What it answers: GET and HEAD of regular files below the folder. What it refuses: folders, hidden files, symbolic links (also on the
way to a file), "..", and requests that name another host, which is how a page elsewhere would reach a server on loopback through DNS.
"""

from __future__ import annotations

import os
import stat
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote

from hwnas.errors import UsageError

LOOPBACK = "127.0.0.1"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".png": "image/png",
    ".json": "application/json",
    **dict.fromkeys((".md", ".csv", ".yaml", ".jsonl", ".c", ".h"), "text/plain; charset=utf-8"),
}
# A page may use what it carries, and fetch, frame or post nothing: one of a run that came from somebody else has no quiet way to send data
# away. A link that leads elsewhere is not among them, nor does a file that is opened without this server have these limits.
POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HTTP_PORT = 80  # which a browser leaves out of Host
REQUEST_TIMEOUT_S = 10.0


class FolderServer(ThreadingHTTPServer):
    """Serves `folder`, with `index` for "/", on a free port of 127.0.0.1 or on `port`.

    Raises:
        UsageError: the port is taken or may not be used.
    """

    daemon_threads = True

    def __init__(self, folder: Path, index: str, port: int = 0) -> None:
        self.folder, self.index = folder.resolve(), index
        try:
            super().__init__((LOOPBACK, port), _Handler)
        except OSError as error:
            raise UsageError(f"--port {port}: {error.strerror or error}; choose another, or leave --port out for a free one") from error

    @property
    def address(self) -> str:
        """What to open in a browser."""
        return f"http://{LOOPBACK}:{self.server_port}/"


class _Handler(BaseHTTPRequestHandler):
    server: FolderServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "hwnas", ""
    timeout = REQUEST_TIMEOUT_S

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get("Host") not in own_names(self.server.server_port):
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own address only")
            return
        try:
            path = unquote(self.path.partition("?")[0], errors="strict").removeprefix("/") or self.server.index
            with open_below(self.server.folder, path) as file:
                content = file.read()
        except (OSError, ValueError):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def end_headers(self) -> None:
        """Every answer says how little a browser may do with it."""
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the terminal belongs to the command."""


def own_names(port: int) -> set[str]:
    """What a request to this server may have as its Host."""
    hosts = {LOOPBACK, "localhost"}
    return {f"{host}:{port}" for host in hosts} | (hosts if port == HTTP_PORT else set())


def open_below(folder: Path, path: str) -> BinaryIO:
    """Open the regular file `path` ("a/b.png") below `folder`, following no link; each part is opened in the one before it, so that
    nothing can be exchanged between a check and the opening.

    Raises:
        ValueError: a path that leaves the folder or names something hidden.
        OSError: no such file, a link, or no regular file.
    """
    parts = path.split("/")
    if any(not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts):
        raise ValueError(f"refused: {path!r}")
    plain = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # a named pipe must not hold the server up
    here = os.open(folder, plain | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            above, here = here, os.open(part, plain | os.O_DIRECTORY, dir_fd=here)
            os.close(above)
        descriptor = os.open(parts[-1], plain, dir_fd=here)
    finally:
        os.close(here)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError(f"no file: {path!r}")
    return open(descriptor, "rb")
