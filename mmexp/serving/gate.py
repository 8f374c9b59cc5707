"""What stands before the model: key, limits of size and rate, checks, counts, the page and the pictures of the index."""

import hmac
import json
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from mmexp.serving.asked import PATHS, Wrong, check

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
# Where LitServe listens; others are told apart by what is put into the body.
INNER = "/embed"
PAGE = Path(__file__).with_name("page.html")
OPEN = ("/", "/health")
CLIENTS = 10_000


@dataclass(frozen=True)
class Limits:
    """What a request may be: `key` None lets everybody in, `per_minute` 0 is no limit of rate, of one client."""

    key: str | None = None
    max_bytes: int = 10_000_000
    max_items: int = 64
    per_minute: int = 0


class Rate:
    """How many requests a client has left: a bucket that fills with time, of the clients that came last."""

    def __init__(self, per_minute: int):
        self.per_minute = per_minute
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, now: float) -> float:
        """Take one, and return 0, or the seconds until there is one."""
        left, then = self._left.pop(client, (float(self.per_minute), now))
        left = min(self.per_minute, left + (now - then) * self.per_minute / 60)
        wait = 0.0 if left >= 1 else (1 - left) * 60 / self.per_minute
        self._left[client] = (left - 1 if not wait else left, now)
        while len(self._left) > CLIENTS:
            self._left.popitem(last=False)
        return wait


class Gate:
    """ASGI middleware. `pictures` are the files of the index by their names, which alone are handed out."""

    def __init__(self, app: Any, limits: Limits, pictures: dict[str, str]):
        self.app, self.limits, self.pictures = app, limits, pictures
        self.rate = Rate(limits.per_minute)
        self.registry = CollectorRegistry()
        told: Any = {"registry": self.registry}
        self.requests = Counter("mmexp_requests", "Requests by path and status", ["path", "status"], **told)
        self.seconds = Histogram("mmexp_request_seconds", "Seconds from request to answer", ["path"], **told)
        self.running = Gauge("mmexp_requests_running", "Requests that wait for their answer", **told)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, path = time.monotonic(), 500, scope["path"]

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        # Few names, whatever is asked for: each is a line of the counts.
        known = path if path in (*PATHS, *OPEN, "/metrics") else "other"
        known = "/pictures" if path.startswith("/pictures/") else known
        with self.running.track_inprogress():
            try:
                await self._answer(scope, receive, noting)
            except Wrong as wrong:
                await _say(noting, wrong.status, {"detail": wrong.told}, getattr(wrong, "headers", ()))
            finally:
                self.requests.labels(known, str(status)).inc()
                self.seconds.labels(known).observe(time.monotonic() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        if path == "/" and method == "GET":
            await _say(send, 200, PAGE.read_bytes(), (), "text/html; charset=utf-8")
            return
        if path == "/health" and method in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        self._admit(scope, headers)
        if path == "/metrics" and method == "GET":
            await _say(send, 200, generate_latest(self.registry), (), CONTENT_TYPE_LATEST)
        elif path.startswith("/pictures/") and method == "GET":
            await self._picture(path.removeprefix("/pictures/"), send)
        elif path in PATHS:
            await self._ask(scope, headers, receive, send)
        else:
            raise Wrong(404, f"there is no {path[:100]}; there are {', '.join([*PATHS, '/health', '/metrics'])}")

    def _admit(self, scope: Scope, headers: dict[str, str]) -> None:
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if self.limits.key and not hmac.compare_digest(key.encode(), self.limits.key.encode()):
            raise Wrong(401, "the key is missing or wrong: it is sent as X-API-Key")
        if self.limits.per_minute:
            client = (scope.get("client") or ("unknown",))[0]
            if wait := self.rate.take(client, time.monotonic()):
                wrong = Wrong(429, f"more than {self.limits.per_minute} requests a minute; the next in {wait:.0f} s")
                wrong.headers = ((b"retry-after", str(int(wait) + 1).encode()),)  # type: ignore[attr-defined]
                raise wrong

    async def _picture(self, name: str, send: Send) -> None:
        file = self.pictures.get(name)
        if file is None:
            raise Wrong(404, "the index has no such picture")
        kind = {".png": "image/png", ".webp": "image/webp", ".gif": "image/gif"}.get(
            Path(file).suffix.lower(), "image/jpeg"
        )
        await _say(send, 200, Path(file).read_bytes(), (), kind)

    async def _ask(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        """Check what is asked, and hand it on to the one place where the model waits."""
        if scope["method"] != "POST":
            raise Wrong(405, f"{scope['path']} takes POST")
        if headers.get("content-type", "application/json").partition(";")[0].strip() != "application/json":
            raise Wrong(415, "the body is JSON: content-type application/json")
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > self.limits.max_bytes:
            raise Wrong(413, f"the body has more than {self.limits.max_bytes} bytes")
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Wrong(400, "the request ended early")
            body += message.get("body", b"")
            if len(body) > self.limits.max_bytes:
                raise Wrong(413, f"the body has more than {self.limits.max_bytes} bytes")
            if not message.get("more_body"):
                break
        path = scope["path"]
        if path == "/search" and not self.pictures:
            raise Wrong(409, "there is no index to search: start the server with index=FOLDER")
        check(path, bytes(body), self.limits.max_items)
        inner = b'{"path": "' + path.encode() + b'", ' + bytes(body).lstrip()[1:]
        replaced = (b"content-length", b"content-type")
        own = [(name, value) for name, value in scope["headers"] if name not in replaced]
        own += [(b"content-length", str(len(inner)).encode()), (b"content-type", b"application/json")]
        handed = False

        async def given() -> MutableMapping[str, Any]:
            nonlocal handed
            if handed:
                return await receive()
            handed = True
            return {"type": "http.request", "body": inner, "more_body": False}

        await self.app({**scope, "path": INNER, "raw_path": INNER.encode(), "headers": own}, given, send)


async def _say(send: Send, status: int, content: Any, headers: Any = (), kind: str = "application/json") -> None:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    told = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *headers]
    told += [(b"x-content-type-options", b"nosniff")]
    await send({"type": "http.response.start", "status": status, "headers": told})
    await send({"type": "http.response.body", "body": body})
