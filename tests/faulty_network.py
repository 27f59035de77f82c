"""A network that fails: passes HTTP requests on to a real server on 127.0.0.1, and spoils those that it is told to."""

import contextlib
import itertools
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

_CODED = "<Error><Code>{}</Code><Message>told AKIDSECRET</Message></Error>"
_SLOW_CHUNK, _SLOW_PAUSE_S = 16, 0.01
_DRIPPED, _DRIP_PAUSE_S = 400, 0.05


def _coded(status: str, code: str) -> bytes:
    body = _CODED.format(code).encode()
    fields = f"Content-Type: application/xml\r\nContent-Length: {len(body)}\r\nConnection: close"
    return f"HTTP/1.1 {status}\r\n{fields}\r\n\r\n".encode() + body


def _bare(status: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


ANSWERS = {
    "500": _bare("500 Internal Server Error"),
    "503": _bare("503 Slow Down"),
    "429": _bare("429 Too Many Requests"),
    "409": _coded("409 Conflict", "ConditionalRequestConflict"),
    "403": _coded("403 Forbidden", "ExpiredToken"),
    "200 with an error": _coded("200 OK", "InternalError"),
}
"""Answers that come without the request having reached the server."""
CUTS = ("cut before", "cut after", "cut within", "cut request")
"""Dropped; carried out, and the answer lost; the answer ends within; the request ends within."""


DRIPS = {"drip": b"", "drip head": b"HTTP/1.1 200 OK\r\nX-Slow: "}
"""Answers that are never silent: the end of the server's own comes byte by byte, or that of the head never."""


class Cache:
    """Answers to GET that are given again, so many times each, whatever happens to the objects meanwhile."""

    def __init__(self, only: str, uses: int) -> None:
        self.only = only
        self.uses = uses
        self.served = 0
        self._kept: dict[str, tuple[bytes, int]] = {}

    def get(self, request: str, ask: Callable[[], bytes]) -> bytes:
        if not request.startswith("GET ") or not re.search(self.only, request):
            return ask()
        answer, left = self._kept.get(request, (b"", 0))
        if left:
            self.served += 1
        else:
            answer, left = ask(), self.uses + 1
        self._kept[request] = answer, left - 1
        return answer


class Proxy(socketserver.ThreadingTCPServer):
    """Takes one request a connection, and spoils the n-th since `begin`; with `lasting`, all from there on.

    `only` is a regular expression: what it does not find in a request's method and path is neither spoiled nor counted.
    `cache` answers in the server's place what it kept.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, upstream: str) -> None:
        self.before(upstream)
        self.released = threading.Event()
        """Ends what "hung" requests wait for."""
        self.hanging = threading.Event()
        """Set once one hangs."""
        self.cache: Cache | None = None
        self._counting = threading.Lock()
        self.begin("none", 0)
        super().__init__(("127.0.0.1", 0), _Passing)

    def before(self, upstream: str) -> None:
        """Stand before this server from now on."""
        host, _, port = upstream.removeprefix("http://").partition(":")
        self.upstream = (host, int(port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def asked(self) -> int:
        return len(self.seen)

    def begin(self, fault: str, at: int, *, lasting: bool = False, only: str = "") -> None:
        self.fault, self.at, self.lasting, self.only = fault, at, lasting, only
        self.seen: list[str] = []
        self.released.clear()
        self.hanging.clear()

    def take(self, request: str) -> str:
        """Note a request by its method and path, and say what becomes of it."""
        if not re.search(self.only, request):
            return "none"
        with self._counting:
            self.seen.append(request)
            hit = self.asked >= self.at > 0 if self.lasting else self.asked == self.at
            return self.fault if hit else "none"


@contextlib.contextmanager
def proxy_before(upstream: str) -> Iterator[Proxy]:
    """Run a proxy before a server until the block ends."""
    with Proxy(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            server.shutdown()
            thread.join()


class _Passing(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            self._pass()

    def _pass(self) -> None:
        head, body = self._request()
        if not head:
            return
        request = b" ".join(head.split(b" ", 2)[:2]).decode()
        fault = self.server.take(request)
        match fault:
            case "cut before":
                return
            case "cut request":
                self._ask(head, body[: len(body) // 2], whole=False)
                return
            case "hung":
                self.server.hanging.set()
                self.server.released.wait(60)
                return
            case "flip" if body:
                body = bytes([body[0] ^ 1, *body[1:]])
        answer = ANSWERS[fault] if fault in ANSWERS else self._answer(request, head, body)
        self._send(fault, answer)

    def _send(self, fault: str, answer: bytes) -> None:
        match fault:
            case "drip" | "drip head":
                self._drip(DRIPS[fault], answer)
            case "cut after":
                return
            case "cut within":
                self.wfile.write(answer[:-1])
            case "slow":
                for start in range(0, len(answer), _SLOW_CHUNK):
                    self.wfile.write(answer[start : start + _SLOW_CHUNK])
                    time.sleep(_SLOW_PAUSE_S)
            case _:
                self.wfile.write(answer)

    def _answer(self, request: str, head: bytes, body: bytes) -> bytes:
        cache = self.server.cache
        return cache.get(request, lambda: self._ask(head, body)) if cache else self._ask(head, body)

    def _drip(self, begun: bytes, answer: bytes) -> None:
        self.server.hanging.set()
        self.wfile.write(begun or answer[:-_DRIPPED])
        for byte in itertools.repeat(b"x") if begun else (bytes([each]) for each in answer[-_DRIPPED:]):
            if self.server.released.wait(_DRIP_PAUSE_S):
                return
            self.wfile.write(byte)

    def _request(self) -> tuple[bytes, bytes]:
        head, fields = _head(self.rfile)
        if b"expect" in fields:
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return head, self.rfile.read(int(fields.get(b"content-length", b"0")))

    def _ask(self, head: bytes, body: bytes, *, whole: bool = True) -> bytes:
        with socket.create_connection(self.server.upstream) as upstream:
            upstream.sendall(_closing(head) + body)
            if not whole:
                return b""
            stream = upstream.makefile("rb")
            answered, fields = _head(stream)
            if head.startswith(b"HEAD"):
                return answered
            length = fields.get(b"content-length")
            return answered + (stream.read() if length is None else stream.read(int(length)))


def _closing(head: bytes) -> bytes:
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith((b"connection:", b"expect:"))]
    return b"\r\n".join([lines[0], b"Connection: close", *lines[1:]])


def _head(stream: Any) -> tuple[bytes, dict[bytes, bytes]]:
    lines = []
    while (line := stream.readline()) not in {b"\r\n", b""}:
        lines.append(line)
    fields = (line.partition(b":") for line in lines[1:])
    return b"".join(lines) + (b"\r\n" if lines else b""), {name.lower(): value.strip() for name, _, value in fields}
