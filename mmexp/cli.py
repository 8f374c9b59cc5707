"""The `mmexp` command: help and dispatch. Standard library only, so that help is there at once."""

import codecs
import importlib
import io
import locale
import os
import sys
import time

from mmexp.errors import RequestError, nearest
from mmexp.trust import allow

COMMANDS = {
    "train": "train one run, or with -m a sweep:  mmexp train encoder=cnn fusion=concat",
    "plan": "what a run would be, before it runs: parameters, FLOPs, memory, steps",
    "evaluate": "finished runs measured on their own or other data:  mmexp evaluate RUN... [data=table data.train=...]",
    "compress": "a run made smaller, step by step:  mmexp compress RUN prune=0.5 recover=300 quantize=int8",
    "export": "a run's model in a form that others load:  mmexp export RUN --format open_clip --out DIR",
    "serve": "a run behind HTTP, with a page to search pictures:  mmexp serve RUN index=FOLDER",
    "cache": "what frozen parts said, kept on disk:  mmexp cache [ls | rm KEY... | rm all]",
    "chain": "stages one after the other, each from the last:  mmexp chain three_stages",
    "compare": "runs and sweeps side by side, and which differences are luck:  mmexp compare PATH...",
    "watch": "how far a sweep or a run is:  mmexp watch NAME [--once]",
    "lineage": "which runs came from which, as a tree:  mmexp lineage [PATH ...]",
    "verify-resume": "whether a run that is killed ends as one that is not:  mmexp verify-resume kills=3 budget.steps=40",
    "matrix": "whether every part goes with every other, tried for two steps:  mmexp matrix [GROUP=CHOICE]",
    "list": "the parts there are, one line each:  mmexp list [GROUP]",
}
# What the libraries of extras are imported as, and the extra that brings them.
EXTRAS = {
    **dict.fromkeys(("onnx", "onnxruntime", "onnxscript"), "onnx"),
    **dict.fromkeys(("torchao", "torch_pruning"), "compress"),
    **dict.fromkeys(("litserve", "prometheus_client", "usearch", "orjson"), "serve"),
}
HELP = """mmexp - experiments on multimodal models

usage: mmexp COMMAND [KEY=VALUE ...]

{commands}

  mmexp train                                     the default run on the bundled data
  mmexp train encoder=vit fusion=xattn adapter=lora
  mmexp train -m encoder=vit,cnn fusion=concat,xattn seed=0,1
  mmexp train --cfg job                           show the whole configuration

Runs go to outputs/runs/, sweeps to outputs/sweeps/. MMEXP_FULL_ERROR=1 shows tracebacks.
"""


def help_text() -> str:
    """Return what `mmexp --help` prints."""
    return HELP.format(commands="\n".join(f"  {name:<15}{what}" for name, what in COMMANDS.items()))


def main() -> int:
    """Run a command and return its exit status: 0 done, 1 the run failed, 2 the request was wrong."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(help_text(), end="")
        return 0
    # One stamp for all processes of a run: ranks that are started later inherit it.
    os.environ.setdefault("MMEXP_STAMP", time.strftime("%Y-%m-%d_%H-%M-%S"))
    allow(arguments)
    try:
        if arguments[0] not in COMMANDS:
            raise RequestError(f"'{arguments[0]}' is not a command.{nearest(arguments[0], COMMANDS)}")
        return importlib.import_module(f"mmexp.commands.{arguments[0].replace('-', '_')}").main(arguments[1:])
    except RequestError as error:
        if os.environ.get("MMEXP_FULL_ERROR"):
            raise
        print(f"mmexp: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRAS:
            raise
        print(
            f"mmexp: this needs {library}, which is not installed: pip install 'mmexp[{EXTRAS[library]}]'.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 0


def use_utf8() -> None:
    """Have all output, files and file names in UTF-8, whatever the locale says.

    Python decides that when it starts, so that under another locale it is started once more.
    """
    if not sys.flags.utf8_mode and codecs.lookup(locale.getpreferredencoding(False)).name != "utf-8":
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        # PYTHONIOENCODING stands above that mode.
        if isinstance(stream, io.TextIOWrapper) and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def entry() -> None:
    """The console script."""
    use_utf8()
    sys.exit(main())


if __name__ == "__main__":
    entry()
