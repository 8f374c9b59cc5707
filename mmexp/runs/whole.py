"""Which checkpoints a run has to go on from, and whether one is what was written, without loading it."""

import zipfile
from pathlib import Path


def damage(path: Path) -> str | None:
    """Return what is wrong with a file that torch.save wrote, an archive whose parts have checksums; None for a whole one."""
    try:
        with zipfile.ZipFile(path) as archive:
            part = archive.testzip()
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        return str(error) or type(error).__name__
    return f"the checksum of {part} is another one" if part else None


def written(directory: Path) -> list[Path]:
    """Return the checkpoints that a run can go on from, the newest first."""
    folder = directory / "checkpoints"
    steps = sorted(folder.glob("step-*.ckpt"), key=lambda file: int(file.stem.partition("-")[2]), reverse=True)
    return [file for file in (folder / "last.ckpt", folder / "previous.ckpt", *steps) if file.is_file()]
