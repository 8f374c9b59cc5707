"""How hard each place has lately been, so that masks can follow the learner: hard places are hidden more often.

The idea of HPM (arXiv:2304.05919) and ADIOS (arXiv:2201.13100), without a second network: what was hard is remembered.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmexp.curriculum import Curriculum, current
from mmexp.step import Views

DECAY = 0.99
EASIEST = 0.1  # the least weight, relative to the mean: what is never hidden again could not become hard again


class RunningLoss(nn.Module):
    """Running means of the loss at each of `places`, and of the whole. All of it is in buffers, equal in all processes.

    In evaluations nothing is learned, weights are equal and a curriculum is at its end, so that they measure one thing.
    """

    places: Tensor
    whole: Tensor
    start: Tensor

    def __init__(self, places: int):
        super().__init__()
        # Decayed sums of losses, and of how often there was one; their quotient has no bias towards the first value.
        self.register_buffer("places", torch.zeros(2, places))
        self.register_buffer("whole", torch.zeros(2))
        self.register_buffer("start", torch.zeros(()))

    def weights(self, places: Tensor | None = None) -> Tensor | None:
        """Return the weights, relative to their mean, of some or all places: their running loss; 1 where nothing is known."""
        if not self.training:
            return None
        losses, times = self.places
        loss = losses / times.where(times > 0, 1)
        usual = loss.sum() / (times > 0).sum().clamp_min(1)
        weight = torch.where((times > 0) & (usual > 0), loss / usual, 1.0).clamp_min(EASIEST)
        return weight if places is None else weight[places]

    def ratio(self, value: Curriculum[float], views: Views) -> float:
        """Return a curriculum's value; not the run's progress leads it but the share of the first loss that is gone by now."""
        if not self.training:
            return views.current(value)
        mean = self.whole[0] / self.whole[1].clamp_min(1e-9)
        return current(value, float(1 - mean / self.start) if self.start > 0 else 0.0)

    def skip(self, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in what other processes found in a step in which this one had nothing to hide."""
        nothing = self.places.new_zeros(0)
        self.learn(nothing.long(), nothing, gather)

    @torch.no_grad()
    def learn(self, places: Tensor, losses: Tensor, gather: Callable[[Tensor], Tensor]) -> None:
        """Take in the `losses (H,)` found at `places (H,)` in this step by this process and, through `gather`, all others."""
        if not self.training:
            return
        found = torch.stack([losses.float(), torch.ones_like(losses, dtype=torch.float)])
        sums = gather(torch.zeros_like(self.places).index_add_(1, places, found)[None]).sum(0)
        step = torch.stack([sums[0] / sums[1].clamp_min(1), torch.ones_like(sums[1])])
        self.places.copy_(torch.where(sums[1] > 0, DECAY * self.places + (1 - DECAY) * step, self.places))
        loss, count = sums.sum(1)
        if count > 0:
            mean = loss / count
            self.whole.copy_(DECAY * self.whole + (1 - DECAY) * torch.stack([mean, torch.ones_like(mean)]))
            self.start.copy_(torch.where(self.start > 0, self.start, mean))
