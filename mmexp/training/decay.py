"""On which parameters weight decay acts: decided by the layer that holds a parameter, not by its shape or name."""

import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, Literal

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import ParametrizationList

Kind = Literal["weight", "embedding", "other"]
"""`weight` multiplies the input of a layer, `embedding` holds word vectors. All `other` parameters never decay: biases,
norms, scales, temperatures, positions, class and mask tokens, prompts, the magnitudes of DoRA, the factors of (IA)^3.
"""


def kinds_of(module: nn.Module) -> dict[str, Kind]:
    """Return the kind of every parameter of a module, by its name.

    A parameter is a weight where its layer is one of torch's linear, convolutional, recurrent or attention layers, and where
    a part lists it in its attribute `decayed_parameters`. A part whose weights must not decay, such as one that starts from the
    identity, lists their names, or patterns of them, in `no_weight_decay()`, as models of timm and open_clip do.

    Args:
        module: the part, or the whole task.

    Returns:
        The kind by the name that `named_parameters()` has; parameters that are shared stand under each of their names.
    """
    kinds = {
        f"{path}.{name}".removeprefix("."): _kind(module, path, name)
        for path, owner in module.named_modules()
        for name, _ in owner.named_parameters(recurse=False)
    }
    for pattern in _listed(module):
        kinds |= dict.fromkeys([name for name in kinds if fnmatchcase(name, pattern)], "other")
    return kinds


def _kind(module: nn.Module, path: str, name: str) -> Kind:
    owner: Any = module.get_submodule(path)
    if isinstance(owner, ParametrizationList) and name == "original":
        # Of a parametrized weight torch keeps the original below `<layer>.parametrizations.<name>`.
        path, _, name = path.partition(".parametrizations.")
        owner = module.get_submodule(path)
    if _multiplies(owner, name) or name in getattr(owner, "decayed_parameters", ()):
        return "weight"
    return "embedding" if isinstance(owner, nn.Embedding | nn.EmbeddingBag) else "other"


def _multiplies(layer: nn.Module, name: str) -> bool:
    """Say whether a parameter multiplies what goes into its layer, by the names that torch documents for its layers."""
    if isinstance(layer, nn.MultiheadAttention):
        return name.endswith("proj_weight")
    if isinstance(layer, nn.RNNBase | nn.RNNCellBase):
        return name.startswith("weight")
    # GPT-2's linear layer; where transformers was not imported there is none.
    more = getattr(sys.modules.get("transformers.pytorch_utils"), "Conv1D", nn.Linear)
    return name == "weight" and isinstance(layer, (nn.Linear, nn.Bilinear, _ConvNd, more))


def _listed(module: nn.Module) -> Iterator[str]:
    """Yield the names, or patterns of them, of what the parts of a module keep from decay."""
    for path, part in module.named_modules():
        declared = getattr(part, "no_weight_decay", None)
        yield from (f"{path}.{name}".removeprefix(".") for name in (declared() if callable(declared) else ()))
    yield from _not_words(module)


def _not_words(module: nn.Module) -> list[str]:
    """Return of models of the transformers library the embeddings that are not of words: positions, types, distances."""
    library = sys.modules.get("transformers")
    models = [part for part in module.modules() if library and isinstance(part, library.PreTrainedModel)]
    words = set(map(id, filter(None, map(_word_embedding, models))))
    held = {id(part): None for model in models for part in model.modules() if isinstance(part, nn.Embedding)}
    return [f"{path}.weight" for path, part in module.named_modules() if id(part) in held and id(part) not in words]


def _word_embedding(model: Any) -> nn.Module | None:
    try:
        return model.get_input_embeddings()
    except (NotImplementedError, AttributeError):  # a model of pictures or sounds
        return None
