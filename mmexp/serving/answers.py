"""The model behind the server, in LitServe's words: requests that came at once are answered in one batch."""

import base64
import binascii
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc import locate
from typing import Any

import litserve
import orjson
import torch
from PIL import Image
from starlette.requests import Request
from starlette.responses import Response
from torch import Tensor

from mmexp.data.pictures import BROKEN, read_picture
from mmexp.serving.asked import Wrong
from mmexp.serving.parent import end_with_parent

Item = dict[str, str]
ROWS = 64
PIXELS = 50_000_000


def picture(content: str) -> Image.Image:
    """Return the picture of a base64 file, decoded as those of a table are. Raises Wrong for anything else."""
    try:
        stored = base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise Wrong(422, "image is not base64") from error
    try:
        with Image.open(io.BytesIO(stored)) as opened:
            width, height = opened.size
        if width * height > PIXELS:
            raise Wrong(413, f"a picture of {width} x {height} pixels is too large")
        return read_picture(stored)
    except (OSError, *BROKEN) as error:
        raise Wrong(422, "image is no picture that can be read") from error


def can_embed(config: Mapping[str, Any]) -> bool:
    """Say whether some objective of a run has a common space, by its class alone."""
    return any(hasattr(locate(node["_target_"]), "embed") for node in config["objective"].values())


class Embedder:
    """Unit vectors of pictures and texts by a run."""

    def __init__(self, run: Path):
        from mmexp import build

        self.model, heads = build.restore(run)
        self.head: Any = next(head for head in heads.values() if hasattr(head, "embed"))
        scale: Any = getattr(self.head, "log_scale", torch.zeros(()))
        self.scale = float(scale.detach().exp())
        self.model.eval()

    @torch.inference_mode()
    def __call__(self, modality: str, values: Sequence[Any]) -> Tensor:
        """Return unit vectors (N, D)."""
        encoder = self.model.encoders[modality]
        found = []
        for start in range(0, len(values), ROWS):
            prepared = encoder.prepare(values[start : start + ROWS])
            found.append(self.head.embed(self.model.encode({modality: prepared}))[modality].float())
        return torch.cat(found)

    def files(self, paths: Sequence[Path]) -> tuple[Tensor, list[bool]]:
        """Return vectors (B, D) of picture files, and which of them could be read."""
        read: list[Any] = []
        for path in paths:
            try:
                read.append(read_picture(path))
            except OSError:
                read.append(None)
        blank = Image.new("RGB", (8, 8))
        return self("image", [one or blank for one in read]), [one is not None for one in read]


class Answers(litserve.LitAPI):
    """Answers what `asked` lets through."""

    def __init__(self, run: Path, index: Path | None, threads: int, batch: int, wait: float):
        super().__init__(max_batch_size=batch, batch_timeout=wait, api_path="/embed")
        self.run, self.place, self.threads = run, index, threads

    def setup(self, device: Any) -> None:
        """Load model and index, in the worker."""
        end_with_parent()
        torch.set_num_threads(self.threads)
        self.embedder = Embedder(self.run)
        self.names: list[str] = []
        if self.place:
            from usearch.index import Index

            self.index: Any = Index.restore(str(self.place / "vectors.usearch"))
            self.names = json.loads((self.place / "names.json").read_text())["names"]

    def decode_request(self, request: Request) -> dict[str, Any]:
        """Return what is asked, with the values of its items by modality; what cannot be read is told in its place."""
        try:
            asked: Any = request  # what LitServe has read of its body
            return {**asked, "values": [self._value(item) for item in _items(asked)]}
        except Wrong as wrong:
            return {"wrong": wrong}

    def _value(self, item: Item) -> tuple[str, Any]:
        kind = "text" if item.get("text") is not None else "image"
        if kind not in self.embedder.model.encoders:
            raise Wrong(422, f"this model has no encoder for {kind}")
        return (kind, item["text"]) if kind == "text" else (kind, picture(item["image"]))

    def batch(self, inputs: list[Any]) -> list[Any]:
        """Return requests as they are: their items become one batch a modality."""
        return inputs

    def predict(self, x: Any) -> list[Any]:
        """Return an answer for each request, or what was wrong with it."""
        wanted: list[tuple[str, Any]] = [value for one in x for value in one.get("values", ())]
        vectors: list[Any] = [None] * len(wanted)
        for modality in {kind for kind, _ in wanted}:
            places = [i for i, (kind, _) in enumerate(wanted) if kind == modality]
            found = self.embedder(modality, [wanted[i][1] for i in places])
            for i, vector in zip(places, found, strict=True):
                vectors[i] = vector
        rest = iter(vectors)
        return [one["wrong"] if "wrong" in one else self._answer(one, [next(rest) for _ in one["values"]]) for one in x]

    def _answer(self, asked: dict[str, Any], vectors: list[Tensor]) -> dict[str, Any]:
        rows = torch.stack(vectors)
        if asked["path"] == "/similarity":
            left = len(asked["left"])
            return {"scores": (rows[:left] @ rows[left:].T).tolist()}
        if asked["path"] == "/search":
            matches = self.index.search(rows[0].numpy(), asked.get("count", 10))
            pairs = zip(matches.keys.tolist(), matches.distances.tolist(), strict=True)
            return {"found": [{"file": self.names[key], "score": 1 - distance} for key, distance in pairs]}
        if asked["path"] == "/classify":
            ensemble = rows[1:].view(len(asked["classes"]), -1, rows.shape[1]).mean(1)
            told = torch.nn.functional.normalize(ensemble, dim=-1) @ rows[0] * self.embedder.scale
            return {"classes": dict(zip(asked["classes"], told.softmax(0).tolist(), strict=True))}
        return {"vectors": rows.numpy()}

    def unbatch(self, output: Any) -> Any:
        """Return answers, one a request."""
        return output

    def encode_response(self, output: Any) -> Response:
        """Return the answer as JSON."""
        if isinstance(output, Wrong):
            return Response(orjson.dumps({"detail": output.told}), output.status, media_type="application/json")
        told = orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY)
        return Response(told, media_type="application/json")


def _items(asked: dict[str, Any]) -> list[Item]:
    if asked["path"] == "/classify":
        texts = [t.replace("{}", name) for name in asked["classes"] for t in asked.get("templates") or ["{}"]]
        return [asked["item"], *({"text": text} for text in texts)]
    if asked["path"] == "/search":
        return [asked["item"]]
    return [*asked.get("items", ()), *asked.get("left", ()), *asked.get("right", ())]
