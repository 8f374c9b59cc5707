"""Distillation of attention: where the energy of an encoder's tokens lies (Zagoruyko and Komodakis, arXiv:1612.03928)."""

from torch import Tensor, nn
from torch.nn import functional as F

from mmexp.errors import RequestError
from mmexp.objectives.presence import Both, Presence
from mmexp.objectives.similarity import unit
from mmexp.rows import take
from mmexp.shapes import ModelShape
from mmexp.step import Terms, Views


class DistillAttention(nn.Module):
    """Compares the mean square of each place's token, as a map of length 1, for every modality whose tokens lie on grids.

    A teacher's grid of another size is interpolated to the student's. Tokens behind a layer norm have almost the same
    energy everywhere: the maps of convolutions tell more. Raises RequestError where no modality has a grid in both.
    """

    needs = ("tokens", "every_patch", "teacher.attention")

    def __init__(self, shape: ModelShape):
        super().__init__()
        own = {"image": shape.grid, "audio": shape.audio_grid}
        self.own = {name: grid for name, grid in own.items() if grid and name in shape.dims}
        self.teacher = dict(shape.teacher.grids)
        if not self.own or (self.teacher and not set(self.own) & set(self.teacher)):
            raise RequestError("no modality has tokens on a grid in both student and teacher. Choose distill_features.")

    def forward(self, views: Views) -> Terms:
        """Return the squared distance of the maps, a mean over rows that have a modality, and over modalities."""
        encoded, teacher = views.encoded(), views.teacher("attention")
        tokens = {name: encoded[name].tokens for name in self.own if name in teacher and name in encoded}

        def apart(name: str, rows: Both) -> Tensor:
            energy = take(tokens[name], rows.own).float().square().mean(-1)
            return self.apart(energy, teacher[name][rows.own].float(), name)

        presence, each = Presence(views, encoded), [(name,) for name in tokens]
        return Terms({"distill_attention": presence.mean(self, views, each, apart, tokens)})

    def apart(self, energy: Tensor, teacher: Tensor, name: str) -> Tensor:
        """Return the mean over rows of |own / |own| - teacher / |teacher||², of `energy (B, N)` and the teacher's `(B, M)`."""
        if self.own[name] != self.teacher[name]:
            map_ = teacher.unflatten(1, self.teacher[name])[:, None]
            teacher = F.interpolate(map_, self.own[name], mode="bilinear").flatten(1)
        return (unit(energy) - unit(teacher)).square().sum(-1).mean()
