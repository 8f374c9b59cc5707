"""A served run under load for a minute, against the same run in process: throughput, latencies, errors, memory.

    python scripts/load_test.py RUN PICTURES [--seconds 60] [--clients 4] [--items 32] [--options workers=2] [--to FILE]

Clients of locust ask for the vectors of pictures and texts, so many items a request; in process the same items are decoded,
prepared and encoded in batches of 64, before and after (A B A). Needs `pip install 'mmexp[serve]' locust`.
"""

import argparse
import base64
import json
import os
import random
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

WORDS = "a small red thing on the left of a blue one under white clouds near some green trees".split(" ")  # noqa: SIM905
FILE = """
import json, os, random
from locust import HttpUser, constant, task
BODIES = [line.encode() for line in open(os.environ["BODIES"])]
class Client(HttpUser):
    wait_time = constant(0)
    @task
    def embed(self):
        self.client.post("/embed", data=random.choice(BODIES), headers={"content-type": "application/json"})
"""


def main() -> None:
    """Measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--items", type=int, default=32)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("--options", nargs="*", default=[], help="of mmexp serve")
    parser.add_argument("--to", type=Path)
    asked = parser.parse_args()
    items = drawn(asked.pictures, 512)
    before = in_process(asked.run, items)
    server, _ = served(asked.run, asked.port, asked.options)
    try:
        memory = [resident(server.pid)]
        found = loaded(asked, items, memory, server.pid)
        server.kill()
        server.wait(60)
        server, again = served(asked.run, asked.port, asked.options)
    finally:
        server.terminate()
        server.wait(60)
    after = in_process(asked.run, items)
    own = (before + after) / 2
    told = {"in process, items/s": [round(before, 1), round(after, 1)], **found}
    told |= {"up again after a kill, s": round(again, 1)}
    told |= {"share": round(found["items/s"] / own, 2), "resident MB": [round(m / 1e6) for m in memory]}
    print(json.dumps(told, indent=2))
    if asked.to:
        asked.to.write_text(json.dumps(told, indent=2) + "\n")


def drawn(pictures: Path, count: int) -> list[dict[str, str]]:
    """Return items, half of them pictures and half texts."""
    draws, files = random.Random(0), sorted(pictures.glob("*.png"))
    found = []
    for i in range(count):
        if i % 2:
            found.append({"text": " ".join(draws.choices(WORDS, k=draws.randint(3, 12)))})
        else:
            found.append({"image": base64.b64encode(draws.choice(files).read_bytes()).decode()})
    return found


def in_process(run: Path, items: list[dict[str, str]]) -> float:
    """Return the items per second of decoding, preparing and encoding, in batches of 64 of a modality."""
    from mmexp.serving.answers import ROWS, Embedder, picture

    embedder = Embedder(run)
    texts, pictures = [one["text"] for one in items if "text" in one], [one["image"] for one in items if "image" in one]

    def once() -> None:
        for start in range(0, len(texts), ROWS):
            embedder("text", texts[start : start + ROWS])
            embedder("image", [picture(one) for one in pictures[start : start + ROWS]])

    # Memory that rested for a minute may have to come back first.
    began = time.perf_counter()
    while time.perf_counter() - began < 5:
        once()
    began, rounds = time.perf_counter(), 0
    while time.perf_counter() - began < 10:
        once()
        rounds += 1
    return rounds * len(items) / (time.perf_counter() - began)


def served(run: Path, port: int, options: Sequence[str] = ()) -> tuple[subprocess.Popen[bytes], float]:
    """Return a server that is up, and the seconds that it took; a killed one's port may have to come free first."""
    began = time.perf_counter()
    while not _is_free(port):
        time.sleep(0.1)
    server = subprocess.Popen(
        [sys.executable, "-m", "mmexp", "serve", str(run), f"port={port}", *options], stdout=subprocess.DEVNULL
    )
    while time.perf_counter() - began < 120:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health").read()
        except OSError:
            time.sleep(0.1)
        else:
            return server, time.perf_counter() - began
    raise SystemExit("the server does not come up")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


def loaded(asked: Any, items: list[dict[str, str]], memory: list[int], server: int) -> dict[str, Any]:
    """Return what locust finds, and add to `memory` what the server holds: after a warm-up, and at the end."""
    with tempfile.TemporaryDirectory() as made:
        folder, draws = Path(made), random.Random(1)
        (folder / "client.py").write_text(FILE)
        bodies = [json.dumps({"items": draws.sample(items, asked.items)}) for _ in range(64)]
        (folder / "bodies").write_text("\n".join(bodies))
        environment = {**os.environ, "BODIES": str(folder / "bodies")}
        for name, seconds in (("warm", 8), ("run", asked.seconds)):
            subprocess.run(
                [
                    *(sys.executable, "-m", "locust", "-f", str(folder / "client.py"), "--headless", "--only-summary"),
                    *(
                        "-u",
                        str(asked.clients),
                        "-r",
                        str(asked.clients),
                        "-t",
                        f"{seconds}s",
                        "--csv",
                        str(folder / name),
                    ),
                    *("--host", f"http://127.0.0.1:{asked.port}", "--loglevel", "ERROR"),
                ],
                env=environment,
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            memory.append(resident(server))
        head, *rows = (folder / "run_stats.csv").read_text().splitlines()
        row = dict(zip(head.split(","), rows[-1].split(","), strict=True))
    return {
        "requests": int(row["Request Count"]),
        "failures": int(row["Failure Count"]),
        "items/s": round(float(row["Requests/s"]) * asked.items, 1),
        "ms p50, p99": [int(row["50%"]), int(row["99%"])],
    }


def resident(process: int) -> int:
    """Return the resident bytes of a process and all below it."""
    children = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    own = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    return (int(own[1]) * 1024 if own else 0) + sum(resident(int(child)) for child in children)


if __name__ == "__main__":
    main()
