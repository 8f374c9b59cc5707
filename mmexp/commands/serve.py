"""`mmexp serve`: a run behind HTTP, with a page to search pictures by words and by pictures."""

import logging
import os
import signal
import socket
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml

from mmexp.commands.replaying import record_of, runs_and_overrides
from mmexp.errors import RequestError, nearest
from mmexp.trust import check_targets

USAGE = "mmexp serve RUN [index=FOLDER] [port=8000] [host=127.0.0.1]"
# name: its type, what it is where nothing is said
OPTIONS: dict[str, Any] = {
    "index": "",
    "host": "127.0.0.1",
    "port": 8000,
    "workers": 1,
    "threads": 0,
    "batch": 64,
    "wait": 0.005,
    "timeout": 30.0,
    "max_bytes": 10_000_000,
    "max_items": 64,
    "per_minute": 0,
}
KEY = "MMEXP_API_KEY"


def main(arguments: Sequence[str]) -> int:
    """Serve until a signal comes. The key is that of the environment, so that it stands in no list of processes."""
    run, options = _asked(arguments)
    import litserve
    from starlette.middleware.gzip import GZipMiddleware

    from mmexp.runs.parents import digest
    from mmexp.serving.answers import Answers, Embedder, can_embed
    from mmexp.serving.gate import Gate, Limits
    from mmexp.serving.index import files_of, made
    from mmexp.serving.parent import end_with_parent

    # Not by `build`: what that imports, the worker alone needs, and the server is to be up soon.
    config = yaml.safe_load((run / "config.yaml").read_text())
    check_targets(config, str(run / "config.yaml"))
    if not can_embed(config):
        raise RequestError(f"no objective of '{run}' has a common space. Take a run of contrastive or siglip.")
    place = None
    if options["index"]:
        if "image" not in config["encoder"]:
            raise RequestError(f"index={options['index']}: '{run}' has no encoder for pictures.")
        # The model is loaded here only where the index is not there yet.
        embedder = cache(partial(Embedder, run))
        place = made(
            Path(options["index"]), str(digest(run)), Path("outputs/indexes"), lambda paths: embedder().files(paths)
        )
        print(f"index: {len(files_of(place)):,} pictures of {options['index']} in {place}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = options["threads"] or max(1, cores // options["workers"])
    answers = Answers(run, place, threads, options["batch"], options["wait"])
    key = os.environ.get(KEY)
    limits = Limits(key, options["max_bytes"], options["max_items"], options["per_minute"])
    gate: Any = (Gate, {"limits": limits, "pictures": files_of(place) if place else {}})
    server = litserve.LitServer(
        answers,
        accelerator="auto",
        devices=1,
        workers_per_device=options["workers"],
        timeout=options["timeout"],
        middlewares=[gate],
        disable_openapi_url=True,
    )
    # Without LitServe's gzip: vectors become hardly smaller by it, and it takes as long as the model does.
    server.app.user_middleware = [one for one in server.app.user_middleware if one.cls is not GZipMiddleware]
    print(
        f"http://{options['host']}:{options['port']} serves {run}; {'a key is asked for' if key else f'no key ({KEY})'}"
    )
    _end_as_with_ctrl_c()
    logging.getLogger(litserve.server.__name__).addFilter(_is_news)
    # What is spawned and not forked, the worker, sees to it itself.
    os.register_at_fork(after_in_child=end_with_parent)
    server.run(
        host=options["host"],
        port=options["port"],
        num_api_servers=1,
        generate_client_file=False,
        log_level="warning",
    )
    return 0


def _end_as_with_ctrl_c() -> None:
    """Let SIGTERM, by which schedulers ask to end, give the answers that are under way first."""
    main_process = os.getpid()

    def end(*_: Any) -> None:
        # What LitServe forks has this handler too, and ends by itself.
        raise KeyboardInterrupt if os.getpid() == main_process else SystemExit(0)

    signal.signal(signal.SIGTERM, end)


def _is_news(record: logging.LogRecord) -> bool:
    """Say whether a message of LitServe's is to be shown: what watches its workers takes the end of all for a crash, at times."""
    gone = record.exc_info is not None and isinstance(record.exc_info[1], ConnectionError | EOFError)
    return not (gone and record.threadName == "litserve-monitoring")


def _check_free(host: str, port: int) -> None:
    """Raise RequestError where nobody can listen there."""
    try:
        with socket.create_server((host, port)):
            pass
    except OSError as error:
        raise RequestError(
            f"port={port}: nothing can listen on {host}:{port} ({error.strerror}). Choose another."
        ) from error


def _asked(arguments: Sequence[str]) -> tuple[Path, dict[str, Any]]:
    runs, settings = runs_and_overrides(arguments)
    if len(runs) != 1 or runs[0].startswith("-"):
        raise RequestError(f"mmexp serve: name one run: {USAGE}.")
    options = dict(OPTIONS)
    for word in settings:
        name, equals, value = word.partition("=")
        if not equals or name == "trust":
            continue
        if name not in OPTIONS:
            raise RequestError(f"{name}=: this is no option of mmexp serve.{nearest(name, OPTIONS)}")
        try:
            options[name] = type(OPTIONS[name])(value)
        except ValueError as error:
            raise RequestError(f"{name}={value}: it is a number.") from error
        if name not in ("index", "host") and (options[name] < 0 or (not options[name] and OPTIONS[name])):
            raise RequestError(f"{name}={value}: it is more than 0.")
    if not 0 < options["port"] < 65_536:
        raise RequestError(f"port={options['port']}: a port is a number from 1 to 65535.")
    record_of(Path(runs[0]))
    _check_free(options["host"], options["port"])
    return Path(runs[0]), options
