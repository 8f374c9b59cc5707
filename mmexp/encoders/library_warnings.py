"""Warnings that libraries log while they load a model: passed on in one line each, but those that are reported otherwise."""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LIBRARIES = ("", "transformers", "huggingface_hub", "timm")
# Missing and unexpected names are in the report on the weights, and what was tried of the network in the error.
_REPORTED = re.compile(
    r"load report|newly initialized|not used when initializing|(un)?expected keys|missing keys|initialized (randomly|partially)"
    r"|no clip weights|no pretrained|retry|retrying|unauthenticated|hf_token|failed to download|error while|xet",
    re.IGNORECASE,
)


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: dict[str, None] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line of a warning once."""
        message = record.getMessage().strip()
        if message and not _REPORTED.search(message):
            name = record.name.partition(".")[0]
            self.lines[f"{name}: {message.splitlines()[0]}"] = None


@contextmanager
def library_warnings() -> Iterator[None]:
    """Collect within what libraries log, and print it to standard error at the end; of an error the exception tells."""
    loggers = [logging.getLogger(name) for name in _LIBRARIES]
    before = [(logger, logger.handlers, logger.propagate) for logger in loggers]
    collector = _Collector()
    for logger in loggers:
        logger.handlers, logger.propagate = [collector], False
    try:
        yield
    finally:
        for logger, handlers, propagates in before:
            logger.handlers, logger.propagate = handlers, propagates
    for line in collector.lines:
        print(f"mmexp: {line}", file=sys.stderr)
