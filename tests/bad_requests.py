"""Requests that a server has to refuse."""

import base64
import io
from typing import Any

from PIL import Image

from mmexp.serving.asked import PATHS


def png(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "png")
    return buffer.getvalue()


def text64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def bad_requests() -> list[tuple[str, str, Any, dict[str, str]]]:
    """A hundred kinds of requests that are wrong: method, path, body and headers."""
    item, image = {"text": "a"}, text64(png())
    found: list[tuple[str, str, Any, dict[str, str]]] = []
    bodies = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"\xff\xfe",
        b"{]",
        b"[" * 5000,
        b'{"items": [}',
        b"{'items': 1}",
    ]
    bodies += [b'{"items": [{"text": "a"}]} more', b"{" + b" " * 100]
    found += [("POST", path, body, {}) for path in PATHS for body in bodies]  # 52
    wrong: list[Any] = [None, 1, "a", {}, [], [None], [1], ["a"], [{}], [{"text": 1}], [{"text": ""}], [{"text": None}]]
    wrong += [
        [{"text": "a", "image": image}],
        [{"words": "a"}],
        [{"image": 5}],
        [{"image": ""}],
        [{"text": "a" * 10_001}],
    ]
    wrong += [[{"image": "not base64!"}], [{"image": "aGVsbG8="}], [{"image": image[:60]}], [item] * 65]
    wrong += [[{"image": text64(b"GIF89a")}], [{"text": ["a"]}], [[item]]]
    found += [("POST", "/embed", {"items": one}, {}) for one in wrong]  # 24
    found += [("POST", "/embed", {"items": [item], more: 1}, {}) for more in ("path", "model", "item", "__class__")]
    pairs: list[Any] = [{"left": [item]}, {"left": [item], "right": []}, {"left": [item] * 40, "right": [item] * 40}]
    found += [("POST", "/similarity", body, {}) for body in pairs]
    found += [("POST", "/search", {"item": item, "count": count}, {}) for count in (0, -1, 101, 1.5, "3", None, True)]
    found += [("POST", "/search", body, {}) for body in ({"count": 3}, {"item": [item]})]
    classes: list[Any] = [[], ["one"], None, "ab", [1, 2], ["a", ""], ["a"] * 1001]
    found += [("POST", "/classify", {"item": item, "classes": one}, {}) for one in classes]
    found += [
        ("POST", "/classify", {"item": item, "classes": ["a", "b"], "templates": one}, {})
        for one in ([], ["no place"], "a {}")
    ]
    found += [
        (method, path, None, {}) for method in ("GET", "PUT", "DELETE", "PATCH") for path in ("/embed", "/search")
    ]
    found += [("GET", path, None, {}) for path in ("/nothing", "/embed/", "/..", "/info/x", "/docs", "/shutdown")]
    found += [
        ("POST", "/embed", {"items": [item]}, {"content-type": kind})
        for kind in ("text/plain", "multipart/form-data", "")
    ]
    return found
