"""Two machines on one: network namespaces with an address each, a rank in each, against one process with the same batch.

    sudo python scripts/two_nodes.py

Shows that two nodes (`hardware=ddp_multinode`, started by torchrun's own variables) have the losses of one process, that where
one is killed the other ends by itself and says why, and that torchrun restarts ranks, which go on from the last checkpoint.
Needs the rights to make network namespaces (Linux, root). Ends with status 1 where something is otherwise.
"""

import csv
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NAMES, ADDRESSES, PORT = ("mmexp-a", "mmexp-b"), ("10.77.0.1", "10.77.0.2"), 29_533
RUN = (
    # Without batch norms, which on a CPU see the rows of their own process alone.
    *("train", "data.styles=[blob]", "data.batch_size=64", "encoder/image=convnext", "encoder.text.depth=1"),
    *("fusion=none", "objective=contrastive", "hardware.precision=32-true", "log_every_steps=1", "evaluate=false"),
    *("data.num_workers=0", "hardware.threads=1"),
)
NODES = ("hardware=ddp_multinode", "hardware.accelerator=cpu", "hardware.devices=1")
LONGEST = 60.0
"""Seconds within which a node that was left alone has to end."""


def ip(*words: str) -> None:
    """Call `ip`."""
    subprocess.run(["ip", *words], check=True)


@contextmanager
def two_hosts() -> Iterator[None]:
    """Have two namespaces with an address each, joined by a cable."""
    for name in NAMES:
        # One of the same name is left of a call that was killed.
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
        ip("netns", "add", name)
    try:
        ip("link", "add", "mmexp0", "netns", NAMES[0], "type", "veth", "peer", "name", "mmexp0", "netns", NAMES[1])
        for name, address in zip(NAMES, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "mmexp0")
            ip("-n", name, "link", "set", "mmexp0", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        for name in NAMES:
            ip("netns", "del", name)


def start(rank: int, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the rank of a node, in the namespace of its own."""
    told = {"MASTER_ADDR": ADDRESSES[0], "MASTER_PORT": str(PORT), "WORLD_SIZE": "2", "RANK": str(rank)}
    told |= {"LOCAL_RANK": "0", "GROUP_RANK": str(rank), "LOCAL_WORLD_SIZE": "1", "TORCHELASTIC_RUN_ID": "two"}
    told |= {"GLOO_SOCKET_IFNAME": "mmexp0", "MMEXP_STAMP": "two"}
    with (folder / f"node{rank}.log").open("ab") as log:
        return subprocess.Popen(
            ["ip", "netns", "exec", NAMES[rank], sys.executable, "-m", "mmexp", *RUN, *NODES, *more],
            cwd=folder,
            env={**os.environ, **told},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def losses(run: Path) -> list[float]:
    """Return the losses of a run's steps."""
    rows = csv.DictReader((run / "metrics.csv").read_text().splitlines())
    return [float(row["train/loss"]) for row in rows if row.get("train/loss")]


def same_losses(folder: Path) -> str:
    """Compare two nodes with one process."""
    subprocess.run(
        [sys.executable, "-m", "mmexp", *RUN, "budget.steps=12", "hydra.run.dir=one"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    nodes = [start(rank, folder, "budget.steps=12", "hydra.run.dir=two") for rank in (0, 1)]
    ended = [node.wait() for node in nodes]
    if any(ended):
        return f"the nodes ended with {ended}: {(folder / 'node0.log').read_text()[-800:]}"
    one, two = losses(folder / "one"), losses(folder / "two")
    off = max(abs(a - b) for a, b in zip(one, two, strict=True))
    print(f"two nodes      {len(two)} steps, losses within {off:.1e} of those of one process")
    return "" if off < 1e-3 else f"losses differ by {off}"


def left_alone(folder: Path, dies: int) -> str:
    """Kill one node in the middle of a run."""
    name = f"left-{dies}"
    nodes = [start(rank, folder, "budget.steps=5000", f"hydra.run.dir={name}") for rank in (0, 1)]
    history, begun = folder / name / "metrics.csv", time.monotonic()
    while not (history.is_file() and len(history.read_text().splitlines()) > 4) and time.monotonic() - begun < 120:
        time.sleep(0.2)
    os.killpg(nodes[dies].pid, signal.SIGKILL)
    killed = time.monotonic()
    try:
        status = nodes[1 - dies].wait(LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(nodes[1 - dies].pid, signal.SIGKILL)
        return f"node {1 - dies} went on for {LONGEST:.0f} s"
    told = (folder / f"node{1 - dies}.log").read_text().strip().splitlines()[-1]
    print(
        f"node {dies} killed  the other ended after {time.monotonic() - killed:.1f} s with status {status}: {told[:150]}"
    )
    return "" if status else "the other one ended as if all was done"


def restarted(folder: Path, *rendezvous: str) -> str:
    """Let torchrun, with its options `rendezvous`, restart two ranks of which one is killed."""
    folder.mkdir()
    command = [
        "-m",
        "torch.distributed.run",
        "--nproc-per-node=2",
        "--max-restarts=1",
        *rendezvous,
        "-m",
        "mmexp",
    ]
    more = (
        "hardware=ddp",
        "hardware.accelerator=cpu",
        "hardware.devices=2",
        "checkpoint.every_steps=5",
        "budget.steps=60",
    )
    with (folder / "elastic.log").open("wb") as log:
        job = subprocess.Popen(
            [sys.executable, *command, *RUN, *more, "resume=auto", "hydra.run.dir=elastic"],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "MMEXP_STAMP": "elastic", "MMEXP_ORDER": str(folder / "order")},
        )
    order = folder / "order"
    while job.poll() is None and not (order.is_file() and len(order.read_text().splitlines()) > 20):
        time.sleep(0.05)
    ranks = subprocess.run(["pgrep", "-P", str(job.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(ranks[-1]), signal.SIGKILL)
    if job.wait():
        return f"torchrun ended with {job.returncode}: {(folder / 'elastic.log').read_text()[-1500:]}"
    steps = [int(line.split()[0]) for line in order.read_text().splitlines()]
    again = [b for a, b in itertools.pairwise(steps) if b <= a]
    logged = len(losses(folder / "elastic"))
    print(f"torchrun {folder.name:<6} one of two ranks killed, gone on from step {again}, {logged} steps logged")
    return "" if again and again[0] > 0 and logged == 60 else f"restarted at {again}"


def main() -> int:
    """Show all of it."""
    with tempfile.TemporaryDirectory() as made, two_hosts():
        folder = Path(made)
        wrong = [same_losses(folder), left_alone(folder, 0), left_alone(folder, 1)]
        wrong += [restarted(folder / "static"), restarted(folder / "c10d", "--rdzv-backend=c10d")]
    for one in filter(None, wrong):
        print(f"WRONG: {one}")
    return int(any(wrong))


if __name__ == "__main__":
    sys.exit(main())
