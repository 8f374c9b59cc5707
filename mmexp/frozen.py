"""Nothing frozen is computed twice: what the frozen parts of a run say of its samples, kept on disk."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mmexp.caching import fingerprint
from mmexp.caching.entry import Entry
from mmexp.caching.settings import CacheSettings
from mmexp.data.chosen import sources_of
from mmexp.data.loading import PreparedSamples
from mmexp.errors import RequestError
from mmexp.frozen_parts import TEACHER, FrozenPart
from mmexp.types import AS_IT_IS, Batch, DataSource, Place

# Rows by which a part's inputs are told from others: enough to see another size, crop or tokenizer.
PROBED = 32


class KeptOutputs:
    """What one part says of the rows of a split: an artefact for each view, or the one for rows as they are."""

    def __init__(self, entries: Mapping[int, Entry]):
        self.entries = entries
        for entry in entries.values():
            entry.read([0])  # opened now: another run may make room for its own later

    def __call__(self, places: Sequence[Place]) -> dict[str, Tensor]:
        """Return the part's named tensors (B, ...); the rows of a batch are read in the same epoch."""
        epoch = places[0][1]
        view = AS_IT_IS if AS_IT_IS in self.entries else epoch % len(self.entries)
        return self.entries[view].read([row for row, _ in places])


@dataclass
class Keeping:
    """Keeps what `parts` say of the `sets` of samples, by split; `precision` is the context in which the run computes.

    `augmentations` says in words how training samples vary, `inputs` whether an objective looks at what goes into encoders.
    """

    settings: CacheSettings
    parts: Sequence[FrozenPart]
    sets: Mapping[str, PreparedSamples]
    source: DataSource
    precision: Callable[[], AbstractContextManager[Any]]
    precision_name: str
    augmentations: str
    batch_size: int
    inputs: bool
    epochs: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def wanted(self) -> Iterator[tuple[FrozenPart, str, int]]:
        """Yield part, split and view of every artefact of the run. Views beyond the last epoch are not seen."""
        for split, samples in self.sets.items():
            # What no row has is not read, and nothing is said of it.
            nowhere = {name for name, there in samples.present.items() if not there.any()}
            for part in self.parts:
                views = self._views(part, samples) if part.name not in nowhere else ()
                yield from ((part, split, view) for view in views)

    def _views(self, part: FrozenPart, samples: PreparedSamples) -> Iterable[int]:
        if samples.variation is None or not part.varied_by(samples):
            return (AS_IT_IS,)
        # Without a number of views every epoch has its own, and none comes back.
        return range(min(samples.variation.views or 0, self.epochs))

    def key(self, part: FrozenPart, split: str, view: int) -> tuple[str, dict[str, Any]]:
        """Return the name of an artefact, and what it depends on."""
        place = (part.name, split, view)
        if place not in self._keys:
            about = self._depends(part, split, view)
            self._keys[place] = fingerprint.digest(sorted(about.items())), about
        return self._keys[place]

    def _depends(self, part: FrozenPart, split: str, view: int) -> dict[str, Any]:
        samples = self.sets[split]
        varied = samples.variation if view != AS_IT_IS else None
        seed = varied.seed if varied else None
        rows = torch.linspace(0, len(samples) - 1, min(PROBED, len(samples))).long().tolist()
        return {
            **self._about(part),
            "data": self.source.fingerprint,
            "files": self._stamp(split),
            "split": getattr(samples.samples, "read_as", None) or split,
            "rows": len(samples),
            "inputs": fingerprint.of_prepared(part.inputs(samples, [(row, view) for row in rows])),
            "view": view,
            "variation": (seed, self.augmentations) if varied else None,
            "reading": fingerprint.of_source([*sources_of(samples.samples), *(varied.augmentations if varied else ())]),
            "precision": self.precision_name,
            "dtype": self.settings.dtype,
            "code": fingerprint.of_code(),
        }

    def _stamp(self, split: str) -> str:
        """Return the digest of the files that a split's rows name, which takes a look at each."""
        if split not in self._stamps:
            self._stamps[split] = getattr(self.sets[split].samples, "stamp", str)()
        return self._stamps[split]

    def _about(self, part: FrozenPart) -> dict[str, Any]:
        if part.name not in self._abouts:
            self._abouts[part.name] = part.about()
        return self._abouts[part.name]

    _abouts: dict[str, dict[str, Any]] = field(default_factory=dict, init=False)
    _keys: dict[tuple[str, str, int], tuple[str, dict[str, Any]]] = field(default_factory=dict, init=False)
    _stamps: dict[str, str] = field(default_factory=dict, init=False)
    _widths: dict[str, float] = field(default_factory=dict, init=False)

    @torch.no_grad()
    def outputs(self, part: FrozenPart, split: str, view: int) -> Iterator[dict[str, Tensor]]:
        """Yield what a part says of all rows of a split, batch by batch."""
        samples = self.sets[split]
        for start in range(0, len(samples), self.batch_size):
            places = [(row, view) for row in range(start, min(start + self.batch_size, len(samples)))]
            batch = _moved(part.inputs(samples, places), self.device)
            with _at_rest(part.module, self.device), self.precision():
                said = part(batch)
            yield said

    def missing(self) -> list[tuple[FrozenPart, str, int]]:
        """Return part, split and view of what is not kept yet."""
        return [one for one in self.wanted() if self.settings.store.find(self.key(*one)[0]) is None]

    def keep(self) -> list[Entry]:
        """Compute what is not there yet, and let the samples read it from there. Raises RequestError where it cannot be."""
        found: dict[tuple[str, str], dict[int, Entry]] = {}
        self._leave_what_does_not_fit()
        wanted = [(*one, *self.key(*one)) for one in self.wanted()]
        store, keys = self.settings.store, [key for *_, key, _ in wanted]
        missing = [(part, split) for part, split, _, key, _ in wanted if store.find(key) is None]
        if missing:
            store.make_room(sum(self.bytes(*one) for one in missing), keys)
        for part, split, view, key, about in wanted:
            outputs = partial(self.outputs, part, split, view)
            found.setdefault((part.name, split), {})[view] = store.obtain(
                key, about, self.settings.torch_dtype, outputs
            )
        for (name, split), entries in found.items():
            self.sets[split].kept[name] = KeptOutputs(entries)
            if not self.inputs and next(part for part in self.parts if part.name == name).spares_input:
                self.sets[split].spared |= {name}
        return [entry for entries in found.values() for entry in entries.values()]

    def _leave_what_does_not_fit(self) -> None:
        """Leave the parts of encoders to each step where there is no room for all: a run was not promised that they are kept."""
        most, parts = self.settings.max_bytes, [part for part in self.parts if part.prefix]
        if parts and sum(self.bytes(part, split) for part, split, _ in self.wanted()) > most:
            print(f"frozen: {', '.join(map(str, parts))}: not kept, for it takes more than cache.max_bytes={most:.3g}")
            self.parts = [part for part in self.parts if not part.prefix]

    @torch.no_grad()
    def served(self, batch: Batch) -> Batch:
        """Return a training batch as it would be with what is kept in it."""
        kept = {part.name: part for part, split, _ in self.wanted() if split == "train"}
        if not kept:
            return batch
        outputs = {name: part(batch["teacher"] if name == TEACHER else batch) for name, part in kept.items()}
        taught = {"taught": outputs.pop(TEACHER)} if TEACHER in outputs else {}
        return {**batch, "encoded": outputs, **taught}

    def bytes(self, part: FrozenPart, split: str) -> float:
        """Return about how large an artefact will be, by one batch of what the part says."""
        if part.name not in self._widths:
            self._measure(part, next(self.outputs(part, split, AS_IT_IS)))
        return self._widths[part.name] * len(self.sets[split])

    def seconds(self, part: FrozenPart, split: str, view: int = AS_IT_IS) -> float:
        """Return about how many seconds an artefact takes to compute, by its first batch."""
        began = time.perf_counter()
        first = next(self.outputs(part, split, view))
        return (time.perf_counter() - began) * len(self.sets[split]) / self._measure(part, first)

    def _measure(self, part: FrozenPart, outputs: Mapping[str, Tensor]) -> int:
        """Note how many bytes a row of a part's outputs takes; return the rows."""
        rows, width = len(next(iter(outputs.values()))), self.settings.torch_dtype.itemsize
        each = [t.numel() * (width if t.is_floating_point() else t.element_size()) for t in outputs.values()]
        self._widths[part.name] = sum(each) / rows
        return rows

    def advice(self, views: int = 4) -> list[str]:
        """Return a line for each part that runs at every training step, since its inputs vary: what `views` cost and gain."""
        train, lines = self.sets.get("train"), []
        if train is None or train.mixing or self.epochs <= views:
            return []
        kept = {part.name for part, split, _ in self.wanted() if split == "train"}
        for part in self.parts:
            causes = part.varied_by(train) if part.name not in kept else []
            if not causes:
                continue
            seconds = self.seconds(part, "train")
            size = self.bytes(part, "train") * views
            epochs = f"each of {self.epochs} epochs" if self.epochs < sys.maxsize else "every epoch"
            lines.append(
                f"frozen: {part} runs at every training step, since {' and '.join(causes)} varies its input: about "
                f"{seconds:.3g} s in {epochs}. variation.views={views} repeats {views} variants of each row instead, "
                f"computed in {views * seconds:.3g} s and read from {size / 1e6:.3g} MB on disk."
            )
        return lines

    def refuse_mixing(self) -> None:
        """Raise RequestError for batches that are mixed or swapped: they are not what their rows were when they were kept."""
        for _, split, view in self.wanted():
            mixing = self.sets[split].mixing if view != AS_IT_IS else []
            if mixing:
                raise RequestError(
                    f"augmentation '{type(mixing[0]).__name__.lower()}' mixes the rows of a batch, which outputs kept of single "
                    "rows cannot follow. Leave it out, or set variation.views=null or cache.enabled=false."
                )


def _moved(batch: Any, device: torch.device) -> Any:
    return {n: _moved(v, device) for n, v in batch.items()} if isinstance(batch, Mapping) else batch.to(device)


@contextmanager
def _at_rest(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Have a module as it evaluates, on `device`, and afterwards as it was."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval().to(device)
    yield
    for part, mode in modes:
        part.training = mode
