"""Places that are spread evenly over a row of things, such as the frames of a video."""


def middles(count: int, wanted: int) -> list[int]:
    """Return the middle places of `wanted` equal parts of `count`, each place once: all where there are no more."""
    return list(range(count)) if count <= wanted else [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]
