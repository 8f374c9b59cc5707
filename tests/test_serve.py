"""`mmexp serve`: right answers, plain 4xx for anything wrong, a key, limits, an index, and an end that loses nothing."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch
from bad_requests import bad_requests, png, text64
from command_line import mmexp

from mmexp.commands import serve
from mmexp.serving.answers import Embedder, picture
from mmexp.serving.asked import PATHS, Wrong, check
from mmexp.serving.gate import Rate

TRAIN = (
    "train",
    "fusion=none",
    "objective=contrastive",
    "encoder/image=cnn",
    "encoder.text.depth=1",
    "data.styles=[blob]",
)
TRAIN += ("data.num_workers=0", "budget.steps=4", "evaluate=false", "hydra.run.dir=run", "hardware.threads=1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("serve")
    done = mmexp(*TRAIN, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "pictures" / "more").mkdir(parents=True)
    for i, colour in enumerate(("red", "green", "blue", "white", "black")):
        (folder / "pictures" / f"{colour}.png").write_bytes(png(colour, (30 + 5 * i, 30)))
    (folder / "pictures" / "more" / "gold in a folder.png").write_bytes(png("gold"))
    (folder / "pictures" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "secret.txt").write_text("nobody reads this")
    return folder


class Server:
    def __init__(self, folder: Path, *more: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        environment = {**os.environ, "MMEXP_API_KEY": "opened"}
        self.log = folder / "serve.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "mmexp",
                    "serve",
                    "run",
                    "index=pictures",
                    f"port={self.port}",
                    "threads=1",
                    *more,
                ],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, seconds: float = 120) -> "Server":
        begun = time.monotonic()
        while time.monotonic() - begun < seconds:
            try:
                if self.call("GET", "/health")[0] == 200:
                    return self
            except OSError:
                assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def call(
        self, method: str, path: str, body: Any = None, key: str | None = "opened", **headers: str
    ) -> tuple[int, Any]:
        content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        told = {"content-type": "application/json", **headers}
        if key is not None:
            told["X-API-Key"] = key
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", content, told, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=60) as answer:
                return answer.status, _read(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _read(error.read())

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


def _read(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return content


@pytest.fixture(scope="module")
def server(folder):
    served = Server(folder).wait()
    yield served
    assert served.end() == 0
    assert "Traceback" not in served.log.read_text()
    with pytest.raises(urllib.error.URLError):
        served.call("GET", "/health")


def test_vectors_are_those_of_the_run(server, folder):
    status, told = server.call("POST", "/embed", {"items": [{"text": "a red thing"}, {"image": text64(png())}]})
    assert status == 200
    embedder = Embedder(folder / "run")
    own = torch.cat([embedder("text", ["a red thing"]), embedder("image", [picture(text64(png()))])])
    torch.testing.assert_close(torch.tensor(told["vectors"]), own, atol=1e-5, rtol=0)


def test_similarities_search_and_classes(server):
    status, told = server.call(
        "POST", "/similarity", {"left": [{"text": "x"}], "right": [{"text": "x"}, {"text": "a b c"}]}
    )
    assert status == 200 and told["scores"][0][0] == pytest.approx(1, abs=1e-4)
    status, told = server.call("POST", "/search", {"item": {"image": text64(png("blue", (40, 30)))}, "count": 3})
    assert status == 200 and len(told["found"]) == 3
    scores = [one["score"] for one in told["found"]]
    assert scores == sorted(scores, reverse=True) and told["found"][0]["file"] == "blue.png"
    asked = {"item": {"image": text64(png())}, "classes": ["red", "blue"], "templates": ["a {} thing", "{}"]}
    status, told = server.call("POST", "/classify", asked)
    assert status == 200 and sum(told["classes"].values()) == pytest.approx(1, abs=1e-4)


def test_pictures_of_the_index_alone_are_handed_out(server):
    assert server.call("GET", "/pictures/more/gold%20in%20a%20folder.png")[0] == 200
    for path in (
        "/pictures/broken.jpg",
        "/pictures/../secret.txt",
        "/pictures/%2e%2e/secret.txt",
        "/pictures//etc/passwd",
    ):
        assert server.call("GET", path)[0] == 404


def test_without_the_key_nothing_is_answered(server):
    for path in PATHS:
        for key in (None, "", "wrong", "opened "):
            assert server.call("POST", path, {"items": [{"text": "a"}]}, key=key)[0] == 401
    assert server.call("GET", "/metrics", key=None)[0] == 401
    assert server.call("GET", "/pictures/red.png", key=None)[0] == 401
    assert server.call("GET", "/health", key=None)[0] == 200
    status, page = server.call("GET", "/", key=None)
    assert status == 200 and b"Search pictures" in page


def test_a_hundred_kinds_of_bad_input_are_4xx(server):
    wrong = bad_requests()
    assert len(wrong) >= 100
    for method, path, body, headers in wrong:
        status, told = server.call(method, path, body, **headers)
        assert 400 <= status < 500, (method, path, body, status, told)
        assert "Traceback" not in str(told)
    assert server.call("POST", "/embed", {"items": [{"text": "a"}]})[0] == 200


def test_it_counts(server):
    text = server.call("GET", "/metrics")[1].decode()
    assert 'mmexp_requests_total{path="/embed",status="200"}' in text and "mmexp_request_seconds_bucket" in text


def test_a_killed_one_leaves_nothing_and_comes_back(folder):
    served = Server(folder).wait()
    assert served.call("POST", "/search", {"item": {"text": "red"}})[0] == 200
    served.process.kill()
    served.process.wait()
    begun = time.monotonic()
    while time.monotonic() - begun < 30:
        left = subprocess.run(["pgrep", "-f", f"port={served.port}"], capture_output=True, text=True).stdout.split()
        if not left:
            break
        time.sleep(0.1)
    else:
        pytest.fail(f"processes of a killed server are left: {left}")
    with pytest.raises(urllib.error.URLError):
        served.call("GET", "/health")
    again = Server(folder, "per_minute=3", "max_bytes=2000").wait()
    said = [again.call("POST", "/embed", {"items": [{"text": "a"}]})[0] for _ in range(5)]
    assert said[:3] == [200, 200, 200] and 429 in said[3:]
    assert again.end() == 0


def test_a_port_that_is_taken_is_one_line(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = mmexp("serve", "run", f"port={taken.getsockname()[1]}", cwd=folder)
    assert done.returncode == 2 and "nothing can listen" in done.stderr and "Traceback" not in done.stderr


def test_a_body_that_is_too_large_is_refused_unread():
    with pytest.raises(Wrong, match="items are more"):
        check("/embed", json.dumps({"items": [{"text": "a"}] * 3}).encode(), 2)


def test_a_rate_fills_with_time():
    rate = Rate(60)
    assert [rate.take("a", 0.0) for _ in range(60)] == [0.0] * 60
    assert rate.take("a", 0.0) == pytest.approx(1) and rate.take("b", 0.0) == 0
    assert rate.take("a", 1.0) == 0 and rate.take("a", 1.0) > 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "name one run"),
        (("nowhere",), "not a run directory"),
        (("run", "indx=a"), "Did you mean 'index'"),
        (("run", "port=0"), "port=0"),
        (("run", "port=a"), "it is a number"),
        (("run", "index=nowhere"), "there is no such folder"),
    ],
)
def test_wrong_requests_are_one_line(folder, words, told):
    done = mmexp("serve", *words, cwd=folder)
    assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr


@pytest.mark.browser
def test_the_page_finds_pictures(server):
    from browser import browser

    with browser() as opened:
        page = opened.new_page()
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"http://127.0.0.1:{server.port}/")
        page.fill("#text", "a red thing")
        page.click("button")
        page.wait_for_function("document.querySelector('#told').textContent.includes('key')")
        page.fill("#key", "opened")
        page.click("button")
        page.wait_for_function("document.querySelectorAll('#found img').length == 6")
        page.wait_for_function("[...document.querySelectorAll('#found img')].every(i => i.naturalWidth > 0)")
        page.set_input_files("#file", {"name": "blue.png", "mimeType": "image/png", "buffer": png("blue")})
        page.wait_for_function("document.querySelector('#found figcaption').textContent.includes('blue.png')")
        assert not errors


@pytest.mark.parametrize(
    ("thread", "error", "shown"),
    [
        ("litserve-monitoring", BrokenPipeError(), False),
        ("litserve-monitoring", OSError("no memory for another worker"), True),
        ("MainThread", BrokenPipeError(), True),
    ],
)
def test_the_end_of_all_is_no_crash_of_a_worker(thread, error, shown):
    record = logging.LogRecord("litserve.server", logging.ERROR, __file__, 1, "crashed", (), (type(error), error, None))
    record.threadName = thread
    assert serve._is_news(record) is shown
