"""Fine-tuning from task to task, and what every method against forgetting is asked."""

from collections.abc import Callable, Iterable

from torch import Tensor, nn

from mmexp.step import Learner, Views
from mmexp.types import Batch

Batches = Callable[[int, int], Iterable[Batch]]


class Plain(nn.Module):
    """Nothing is done against forgetting. Methods change what they need of this.

    `kept` is what is remembered of earlier tasks, named tensors that go into the checkpoint. `rows_kept` rows of earlier tasks
    are a `share` of every batch. With `joint` all tasks are one. `adds_losses` says that `losses` has any, `one_process`
    that what is trained changes, which several processes would not follow.
    """

    joint = False
    adds_losses = False
    one_process = False
    rows_kept = 0
    share = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Tensor] = {}

    def open(self, number: int, learner: Learner) -> None:
        """Say by `requires_grad` what task `number` (from 0) trains."""

    def begin(self, number: int, learner: Learner) -> None:
        """Task `number` begins, with the weights that the one before left."""

    def losses(self, learner: Learner, views: Views) -> dict[str, Tensor]:
        """Return named losses (scalars) that are added to the objectives' in a step of any task but the first."""
        return {}

    def finish(self, number: int, learner: Learner, batches: Batches) -> None:
        """Task `number` ended; `batches(rows, count)` are of its own rows, without variation."""

    def measure(self, number: int, learner: Learner) -> None:
        """All tasks are to be measured, while `number` is trained."""

    def look(self, asked: int, number: int, learner: Learner) -> None:
        """Task `asked` is measured next, or goes on where it is `number`, the one that is trained."""

    def get_extra_state(self) -> dict[str, Tensor]:
        """Return what the checkpoint keeps."""
        return self.kept

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take what the checkpoint kept."""
        self.kept = dict(state)
