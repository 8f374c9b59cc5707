"""LiT: one tower is locked, the other learns to speak its language (locked-image tuning, arXiv:2111.07991)."""

from mmexp.adapters.frozen import Frozen
from mmexp.adapters.full import Full


class Lit:
    """The tower `locked` is frozen, all else is trained in full, with loaded weights or without."""

    whole = True

    def __init__(self, locked: str = "image"):
        self.locked = locked

    def of(self, name: str) -> Frozen | Full:
        """Return what is done with the part of this name, such as `encoders.image`."""
        return Frozen() if name == f"encoders.{self.locked}" else Full()
