"""What a head looks at: the fused output, or one modality alone."""

from mmexp.types import Encoded, ModelShape, Views


def source_dim(shape: ModelShape, source: str) -> int:
    """Return the width of `fused` or of a modality."""
    dim = shape.fused_dim if source == "fused" else shape.dims[source]
    assert dim is not None
    return dim


def source_of(views: Views, source: str) -> Encoded:
    """Return the clean encoding of `fused` or of a modality."""
    return views.fused() if source == "fused" else views.encoded()[source]
