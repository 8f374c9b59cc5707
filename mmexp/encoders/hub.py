"""What the hub has: asked for as libraries do, refused at once and in one line where it cannot be reached."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from urllib.request import getproxies

from mmexp.encoders.library_warnings import library_warnings
from mmexp.encoders.names import first_line
from mmexp.errors import RequestError

_SECONDS = 5.0
_REFUSALS = (OSError, ValueError, KeyError, ImportError, RuntimeError, TypeError, AssertionError)
NOT_HERE = "the hub cannot be reached, and nothing of that name was downloaded before"


@contextmanager
def from_hub(what: str) -> Iterator[None]:
    """Within, libraries may download; without a network they look at once among what was downloaded before.

    They would try for a minute, and tell of each try. Raises RequestError, `what` and why, where that fails.
    """
    from huggingface_hub import constants

    with _offline(constants.HF_HUB_OFFLINE or not _answers(constants.ENDPOINT)) as offline:
        try:
            yield
        except _REFUSALS as error:
            why = NOT_HERE if offline and _is_missing(error) else first_line(error)
            raise RequestError(f"{what}: {why}") from error


@contextmanager
def in_folder(what: str) -> Iterator[None]:
    """Within, libraries read local files and ask no hub. Raises RequestError, `what` and why, where that fails."""
    with _offline(True), _without_bars():
        try:
            yield
        except _REFUSALS as error:
            raise RequestError(f"{what}: {first_line(error)}") from error


@contextmanager
def _without_bars() -> Iterator[None]:
    from transformers.utils import logging as told

    shown = told.is_progress_bar_enabled()
    told.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            told.enable_progress_bar()


@contextmanager
def _offline(offline: bool) -> Iterator[bool]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = offline
    try:
        with library_warnings():
            yield offline
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(address: str) -> bool:
    """Say whether a server answers there; behind a proxy only the libraries know the way."""
    if {"http", "https", "all"} & set(getproxies()):
        return True
    parts = urlsplit(address)
    try:
        socket.create_connection((parts.hostname, parts.port or 443), _SECONDS).close()
    except OSError:
        return False
    return True


def _is_missing(error: BaseException | None) -> bool:
    """Say whether an error came of a file that would have to be downloaded."""
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if error is None:
        return False
    words = ("offline", "couldn't connect", "cannot find the requested files", "failed to download")
    told = isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled) or any(
        word in str(error).lower() for word in words
    )
    return told or _is_missing(error.__cause__ or error.__context__)
