"""One artefact on disk: named tensors with a row for each sample, memory-mapped, in any order of rows."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmexp.errors import RequestError

# Of these tensors (B, N, ...) only the places are kept at which the `mask (B, N)` beside them is true.
BY_PLACE = ("tokens", "ids")
MANIFEST = "entry.json"


@dataclass(frozen=True)
class Array:
    """One file: the type and the shape of an item, an item for each row, or for each real place of a row."""

    file: str
    dtype: str
    shape: tuple[int, ...]
    by_place: bool
    size: int
    sha256: str


class ArrayWriter:
    """Appends tensors to one file, and knows its checksum at the end."""

    def __init__(self, folder: Path, file: str, by_place: bool):
        self.path, self.by_place = folder / file, by_place
        self.digest, self.size = sha256(), 0
        self.stream = self.path.open("wb")

    def add(self, items: Tensor) -> None:
        """Append items (M, ...), all of the same shape and type."""
        self.dtype, self.shape = str(items.dtype).removeprefix("torch."), tuple(items.shape[1:])
        content: Any = _raw(items)
        self.stream.write(content)
        self.digest.update(content)
        self.size += content.nbytes

    def close(self) -> Array:
        """Bring the file to the disk, and return what it holds."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.close()
        return Array(self.path.name, self.dtype, self.shape, self.by_place, self.size, self.digest.hexdigest())


def _raw(items: Tensor) -> np.ndarray:
    """Return the bytes of the items as numpy shares them; it knows no bfloat16."""
    return items.contiguous().reshape(-1).view(torch.uint8).numpy()


class EntryWriter:
    """Writes the batches of one artefact into `folder`; floating point numbers are kept as `dtype`."""

    def __init__(self, folder: Path, dtype: torch.dtype):
        self.folder, self.dtype, self.rows = folder, dtype, 0
        self.arrays: dict[str, ArrayWriter] = {}

    def add(self, batch: Mapping[str, Tensor]) -> None:
        """Append a batch of named tensors (B, ...)."""
        batch = {name: tensor.cpu() for name, tensor in batch.items()}
        self.rows += len(next(iter(batch.values())))
        for name, tensor in batch.items():
            mask, by_place = batch.get(mask_of(name)), name.rpartition("/")[2] in BY_PLACE
            if name.rpartition("/")[2] == "mask":
                tensor = tensor.sum(1)  # how many places of a row are real
            elif by_place:
                tensor = tensor[mask]
            tensor = self._stored(tensor) if tensor.is_floating_point() else tensor
            if name not in self.arrays:
                self.arrays[name] = ArrayWriter(self.folder, f"{name.replace('/', '.')}.bin", by_place)
            self.arrays[name].add(tensor)

    def _stored(self, tensor: Tensor) -> Tensor:
        """Return a tensor in the type on disk. Raises RequestError for numbers that are too large for it."""
        stored = tensor.to(self.dtype)
        if (stored.isinf() & tensor.isfinite()).any():
            name = str(self.dtype).removeprefix("torch.")
            raise RequestError(
                f"cache.dtype={name}: an output of a frozen part is {tensor.abs().max():.3g}, and {name} ends at "
                f"{torch.finfo(self.dtype).max:.3g}. Set cache.dtype=bfloat16 or float32."
            )
        return stored

    def close(self, key: str, about: Mapping[str, Any]) -> None:
        """Write the manifest, without which the folder is no artefact."""
        arrays = {name: asdict(writer.close()) for name, writer in self.arrays.items()}
        manifest = {"key": key, "rows": self.rows, "about": dict(about), "arrays": arrays}
        with (self.folder / MANIFEST).open("w") as stream:
            json.dump(manifest, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())


def mask_of(name: str) -> str:
    """Return the name of the mask beside a tensor."""
    head, slash, _ = name.rpartition("/")
    return f"{head}{slash}mask"


class Entry:
    """An artefact as it was written. Raises OSError, ValueError or KeyError where the folder holds none."""

    def __init__(self, folder: Path):
        self.folder = folder
        manifest = json.loads((folder / MANIFEST).read_text())
        self.key, self.rows, self.about = manifest["key"], manifest["rows"], manifest["about"]
        self.arrays = {n: Array(**{**a, "shape": tuple(a["shape"])}) for n, a in manifest["arrays"].items()}

    @property
    def size(self) -> int:
        """Return the bytes on disk."""
        return sum(array.size for array in self.arrays.values())

    def damage(self) -> str | None:
        """Return what is wrong with the files, None where each is as it was written."""
        for array in self.arrays.values():
            path = self.folder / array.file
            if not path.is_file():
                return f"{array.file} is missing"
            if path.stat().st_size != array.size:
                return f"{array.file} has {path.stat().st_size} bytes instead of {array.size}"
            with path.open("rb") as stream:
                if file_digest(stream, "sha256").hexdigest() != array.sha256:
                    return f"the checksum of {array.file} is another one"
        return None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the memory maps behind: another process opens its own."""
        return {name: value for name, value in vars(self).items() if name not in ("_maps", "_starts")}

    @cached_property
    def _maps(self) -> dict[str, Tensor]:
        return {name: self._map(array) for name, array in self.arrays.items()}

    def _map(self, array: Array) -> Tensor:
        dtype = getattr(torch, array.dtype)
        count = array.size // (dtype.itemsize * int(np.prod(array.shape)))
        # Private: opened for reading alone.
        items = torch.from_file(str(self.folder / array.file), False, array.size // dtype.itemsize, dtype=dtype)
        return items.view(count, *array.shape)

    @cached_property
    def _starts(self) -> dict[str, Tensor]:
        """Where each row's places begin, by the name of the mask."""
        masks = {name: tensor for name, tensor in self._maps.items() if name.rpartition("/")[2] == "mask"}
        return {name: lengths.cumsum(0) - lengths for name, lengths in masks.items()}

    def read(self, rows: Sequence[int]) -> dict[str, Tensor]:
        """Return the tensors of `rows`: floating point numbers as fp32, places filled up to the longest row."""
        index, found = torch.as_tensor(rows), {}
        for name, array in self.arrays.items():
            if name in self._starts:
                lengths = self._maps[name][index]
                found[name] = torch.arange(int(lengths.max()))[None] < lengths[:, None]
            else:
                items = self._by_place(name, index) if array.by_place else self._maps[name][index]
                found[name] = items.float() if items.is_floating_point() else items
        return found

    def _by_place(self, name: str, index: Tensor) -> Tensor:
        starts, lengths = self._starts[mask_of(name)][index], self._maps[mask_of(name)][index]
        inside = torch.arange(int(lengths.max()))[None]
        real = inside < lengths[:, None]
        items = self._maps[name][(starts[:, None] + inside)[real]]
        whole = items.new_zeros(*real.shape, *items.shape[1:])
        whole[real] = items
        return whole
