"""What becomes of rows of a table that cannot be read."""

from dataclasses import dataclass, field

from mmexp.errors import RequestError


@dataclass
class Faults:
    """Called with what is wrong and where: raises RequestError, or with `skip` remembers it, so that reading goes on.

    `notes` are lines on how a table was read where there was a choice; nothing of it is left out.
    """

    skip: bool = False
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __call__(self, where: str, what: str) -> None:
        """Note a fault, or raise it."""
        if not self.skip:
            raise RequestError(f"{where}: {what}")
        self.found.append(f"{where}: {what}")
