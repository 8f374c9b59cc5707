"""What a report shows of where answers come from: heat over pictures, weight on words, and what each word saw."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from mmexp.judging.looking import Look

_SIDE = 96  # pixels of a picture under its heat
WORDS = 8  # whose own views of the picture are shown


@dataclass
class Attention:
    """`heat (h, w)`, of any scale, lies over the whole `picture`; `text` is what looked at it."""

    picture: Image.Image
    heat: np.ndarray
    text: str


@dataclass
class Seen:
    """Where one answer comes from: `said`, heat over the picture, `words` by how they were weighed (0 to 1), views by word."""

    said: str
    picture: Image.Image | None
    over_picture: list[Attention] = field(default_factory=list)
    over_words: dict[str, list[tuple[str, float]]] = field(default_factory=dict)
    by_word: list[Attention] = field(default_factory=list)


def shown_looks(looks: Sequence[Look], classes: Sequence[str]) -> list[Seen]:
    """Return what is shown of each look that has anything to show."""
    seen = [_shown(look, classes) for look in looks]
    return [one for one in seen if one.over_picture or one.over_words]


def _shown(look: Look, classes: Sequence[str]) -> Seen:
    said = f"similarity {look.score:.2f}" if look.label is None else str(classes[look.label])
    picture = None if look.pixels is None else Image.fromarray(look.pixels.permute(1, 2, 0).numpy())
    seen = Seen(said, picture)
    if picture is not None:
        seen.over_picture = [Attention(picture, heat.numpy(), how) for how, heat in look.over_picture.items()]
        if look.seen is not None:
            # Of a long text the words that saw most differently, in their order.
            telling = look.seen.flatten(1).std(1).argsort(descending=True)[:WORDS].sort().values.tolist()
            seen.by_word = [Attention(picture, look.seen[place].numpy(), look.words[place]) for place in telling]
    for how, weights in look.over_words.items():
        seen.over_words[how] = list(zip(look.words, (weights / weights.max().clamp_min(1e-12)).tolist(), strict=True))
    return seen


def overlay(seen: Attention) -> Image.Image:
    """Return the picture with its heat over it: the more attention, the less of the picture and the warmer."""
    import matplotlib

    picture = seen.picture.convert("RGB")
    picture.thumbnail((_SIDE, _SIDE))
    heat = np.nan_to_num(np.asarray(seen.heat, dtype=np.float32))
    heat = (heat - heat.min()) / max(float(np.ptp(heat)), 1e-12)
    heat = np.asarray(Image.fromarray(heat).resize(picture.size, Image.Resampling.BICUBIC)).clip(0, 1)
    colour = matplotlib.colormaps["inferno"](heat)[..., :3] * 255
    alpha = 0.25 + 0.5 * heat[..., None]
    return Image.fromarray(((1 - alpha) * np.asarray(picture) + alpha * colour).astype(np.uint8))
