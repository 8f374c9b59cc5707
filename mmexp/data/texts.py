"""The captions that a text file holds."""


def captions_in(text: str, each_line: bool) -> str | list[str]:
    """Return a text file's whole text as one caption, or with `each_line` a caption for each of its lines that is not empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines if each_line and len(lines) > 1 else text.strip()
