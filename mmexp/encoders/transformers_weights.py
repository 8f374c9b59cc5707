"""Models of the transformers library with their trained weights, and what was found of these."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmexp.errors import RequestError
from mmexp.state_dicts import LoadReport, refuse_shapes, without_prefix

_FILES = ("*.safetensors", "pytorch_model*.bin")


def pretrained_model(auto: Any, name: str, **options: Any) -> tuple[Any, LoadReport]:
    """Return what `auto.from_pretrained(name, **options)` loads, and what it found of the weights.

    Where weights are missing, and are there below one common prefix, they are loaded without it.

    Args:
        auto: a class of transformers, such as AutoModel.
        name: a folder, or a name on the hub.
        options: of `from_pretrained`.

    Raises:
        RequestError: a shape differs.
    """
    model, found = auto.from_pretrained(name, output_loading_info=True, ignore_mismatched_sizes=True, **options)
    _check_shapes(found, name)
    report = _report(model, found)
    if not report.missing:
        return model, report
    stripped, prefix = without_prefix(_stored(name), model.state_dict())
    if not prefix:
        return model, report
    options = {key: value for key, value in options.items() if key != "config"}
    model, found = type(model).from_pretrained(
        None,
        config=model.config,
        state_dict=stripped,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    _check_shapes(found, name)
    return model, _report(model, found, prefix)


def part_report(model: nn.Module, part: nn.Module, report: LoadReport) -> LoadReport:
    """Return the report on a submodule of a model, such as the text tower of a CLIP; of the model itself as it is."""
    inside = next((name for name, module in model.named_modules() if module is part), "")
    return report.of(inside, part.state_dict()) if inside else report


def _report(model: Any, found: dict[str, Any], prefix: str = "") -> LoadReport:
    missing, unexpected = sorted(found["missing_keys"]), sorted(found["unexpected_keys"])
    return LoadReport(len(model.state_dict()) - len(missing), tuple(missing), tuple(unexpected), prefix)


def _check_shapes(found: dict[str, Any], name: str) -> None:
    refuse_shapes({key: (here, there) for key, there, here in found["mismatched_keys"]}, f"'{name}'")


def _stored(name: str) -> dict[str, Tensor]:
    """Return all tensors of a folder, or of what was downloaded of a name on the hub."""
    from transformers.modeling_utils import load_state_dict
    from transformers.utils import CONFIG_NAME, cached_file

    folder = Path(name) if Path(name).is_dir() else Path(str(cached_file(name, CONFIG_NAME))).parent
    files = next((sorted(folder.glob(pattern)) for pattern in _FILES if any(folder.glob(pattern))), [])
    if not files:
        raise RequestError(f"'{name}' has no weights file.")
    return {key: tensor for file in files for key, tensor in load_state_dict(str(file)).items()}
