"""The task on which all others stand: a step, the weighted sum of named losses, logging, the optimizer."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from mmexp.model import Model
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.views import StepViews
from mmexp.types import Batch

# The method by which an objective shows what its head says, and the name under which that is gathered.
HEADS = {"classify": "logits", "mark": "marks", "estimate": "estimates"}


class Task(L.LightningModule):
    """Trains `model` with `objectives`, each weighted. `splits` names the evaluation sets in the order of their loaders."""

    def __init__(
        self,
        model: Model,
        objectives: Mapping[str, nn.Module],
        weights: Mapping[str, float],
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., Any],
        seed: int = 0,
        total_steps: int = 1,
        log_every_steps: int = 10,
    ):
        super().__init__()
        self.model = model
        self.objectives: Any = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        self.optimizer_factory, self.schedule_factory = optimizer, schedule
        self.seed, self.total_steps, self.log_every_steps = seed, total_steps, log_every_steps
        self.splits: list[str] = []
        self.results: dict[str, float] = {}
        self.gathered: dict[str, Gathered] = {}

    teach: Callable[[Batch], dict[str, Tensor]] | None = None

    def views(self, batch: Batch, step: int) -> StepViews:
        """Return the batch as its objectives see it."""
        return StepViews(self.model, batch, self.seed, step, self._gather, self.teach)

    def terms(self, views: StepViews) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all losses, and every scalar to look at: `loss`, `loss_<name>`, metrics."""
        total: Tensor | None = None
        numbers: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            losses, metrics = objective(views)
            weighted = self.weights[name] * sum(losses.values())
            total = weighted if total is None else total + weighted
            numbers |= {f"loss_{term}": value.detach() for term, value in losses.items()}
            numbers |= {term: value.detach() for term, value in metrics.items()}
        assert total is not None
        return total, {"loss": total.detach(), **numbers}

    def on_train_epoch_start(self) -> None:
        """Let the running statistics of frozen batch norms rest: they are weights too, and frozen means bit-equal."""
        for module in self.model.modules():
            if hasattr(module, "running_mean") and not any(p.requires_grad for p in module.parameters()):
                module.eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one step; every `log_every_steps` steps its numbers are logged."""
        loss, numbers = self.terms(self.views(batch, self.global_step))
        if self.global_step % self.log_every_steps == 0 or self.global_step + 1 == self.total_steps:
            self._stop_if_not_finite(numbers)
            self.log_dict({f"train/{name}": value for name, value in numbers.items()}, batch_size=len(batch["index"]))
        return loss

    def _stop_if_not_finite(self, numbers: dict[str, Tensor]) -> None:
        for name, value in numbers.items():
            if not torch.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value.item()} at step {self.global_step}; a lower optimizer.lr may help"
                )

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Gather what the evaluation set's numbers are made of."""
        split = self.splits[dataloader_idx]
        # The same masks and negatives at every evaluation, so that its curve is not noise.
        views = self.views(batch, batch_idx)
        _, numbers = self.terms(views)
        numbers = {name: self._gather(value.detach().view(1)).mean() for name, value in numbers.items()}
        self.gathered.setdefault(split, Gathered()).add(numbers, self._tensors(views), len(batch["index"]))

    test_step = validation_step

    def _tensors(self, views: StepViews) -> dict[str, Tensor]:
        """Return the rows that whole-set metrics need: unit vectors by modality, what heads say, and what is right."""
        known = ("index", "concept", "label", "targets", "number")
        rows = {key: views.batch[key] for key in known if key in views.batch}
        for objective in self.objectives.values():
            if hasattr(objective, "embed"):
                rows |= {f"vector/{name}": vector for name, vector in objective.embed(views.encoded()).items()}
            for head, said in HEADS.items():
                if hasattr(objective, head):
                    source = views.fused() if objective.source == "fused" else views.encoded()[objective.source]
                    rows[said] = getattr(objective, head)(source)
        return {name: self._gather(tensor) for name, tensor in rows.items()}

    def on_validation_epoch_start(self) -> None:
        """Forget the evaluation before."""
        self.gathered = {}

    def on_validation_epoch_end(self) -> None:
        """Turn what was gathered into numbers, `<split>/<metric>`, in `results` and in the log."""
        for split, gathered in self.gathered.items():
            numbers = {f"{split}/{name}": value for name, value in gathered.metrics().items()}
            self.results |= numbers
            shown = {name: value for name, value in numbers.items() if not name.endswith(("_chance", "candidates"))}
            self.log_dict(shown, add_dataloader_idx=False, sync_dist=True)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def _gather(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes; gradients flow to every process's own rows."""
        if self._trainer is None or self.trainer.world_size == 1:
            return tensor
        gathered: Any = self.all_gather(tensor, sync_grads=tensor.requires_grad)
        return gathered.flatten(0, 1)

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what is trained, and the schedule that ends with the budget."""
        optimizer = self.optimizer_factory(p for p in self.parameters() if p.requires_grad)
        schedule = self.schedule_factory(optimizer, self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the unit vectors (B, D) of every modality of the batch, in the space of the first objective that has one."""
        encoded = self.model.encode(batch)
        embed = next(o.embed for o in self.objectives.values() if hasattr(o, "embed"))
        return embed(encoded)
