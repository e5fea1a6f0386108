"""A port of the local machine that answers with the store's metrics (``start --metrics-port``).

Theory: a page is made for each question, in the keeper's process; what it shows is for others to
make (``cli/metrics_text``). It listens on 127.0.0.1 alone, answers GET of ``/metrics``, and holds
nothing up: each question has a thread of its own, and a client that is silent is let go.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from profile_actors.errors import ConfigError, ProfileActorsError

HOST = "127.0.0.1"


PATH = "/metrics"


SILENCE_S = 10.0
"""A client that says nothing for so long is let go."""


CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class MetricsPort:
    """Takes the port, so that one in use is said before a store is opened; ``serve`` answers.

    port: 0 for any free one. Raises ConfigError.
    """

    def __init__(self, port: int) -> None:
        self._page: Callable[[], str] | None = None
        self._making = threading.Lock()
        asked = self

        class Handler(BaseHTTPRequestHandler):
            timeout = SILENCE_S

            def do_GET(self) -> None:
                status, text = asked.answer(self.path)
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the keeper's log is for the store."""

        try:
            self._server = ThreadingHTTPServer((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"expected a free port for metrics on {HOST}, got {port} ({error}) - at"
                " --metrics-port; name another, or 0 for any"
            ) from None
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """Where a collector finds the page."""
        return f"http://{HOST}:{self._server.server_address[1]}{PATH}"

    def serve(self, page: Callable[[], str]) -> None:
        """Answer from now on, in the background. page: made for one question at a time."""
        self._page = page
        threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True).start()

    def answer(self, path: str) -> tuple[int, str]:
        """The HTTP status and the text for a path."""
        if path.split("?")[0] != PATH:
            return 404, f"expected {PATH}\n"
        page = self._page
        if page is None:
            return 503, "the store is being opened\n"
        try:
            with self._making:
                return 200, page()
        except ProfileActorsError as error:
            return 503, f"{error}\n"

    def close(self) -> None:
        """Answer nobody any more, and free the port."""
        if self._page is not None:
            self._server.shutdown()
        self._server.server_close()
