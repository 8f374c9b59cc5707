"""The parts of a model that an adapter treats one by one."""

from collections.abc import Iterator

from torch import nn


def parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield `encoders.<modality>` for each encoder, then `fusion`."""
    for name, encoder in model.get_submodule("encoders").named_children():
        yield f"encoders.{name}", encoder
    yield "fusion", model.get_submodule("fusion")
