"""The task on which all others stand: a step, its named losses made into one, logging, the optimizer."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any
from zlib import crc32

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mmexp.curriculum import Curriculum
from mmexp.model import Model
from mmexp.pace import Pace
from mmexp.tasks.balancing import BalancedStep, StepLosses, buffers_kept, share_of, shares_of
from mmexp.tasks.evaluation import Gathered
from mmexp.tasks.examined import gathered_rows, numbers_of
from mmexp.tasks.flops import flop_counter
from mmexp.tasks.nonfinite import gone_bad, refuse_loss
from mmexp.tasks.said import first_with
from mmexp.tasks.views import StepViews
from mmexp.tasks.zero_shot import class_vectors
from mmexp.types import Batch, Said, Samples


class Task(L.LightningModule):
    """Trains `model` with `objectives`, each weighted, whose losses share it as `balance` says.

    `splits` names the evaluation sets in the order of their loaders; `samples` are the rows of each by its name. By
    `class_texts`, some of each class, evaluations classify zero-shot. `steps_per_epoch` is told in the history as `epoch`.
    `optimizer` is given the task. `pace` says how far the run is; where it has a limit of seconds, `clock` tells those of
    training so far. `reported` names the losses and numbers of a step, once one was tried.
    """

    def __init__(
        self,
        model: Model,
        objectives: Mapping[str, nn.Module],
        weights: Mapping[str, Curriculum[float]],
        balance: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        schedule: Callable[..., Any],
        seed: int = 0,
        total_steps: int | None = 1,
        log_every_steps: int = 10,
    ):
        super().__init__()
        self.model = model
        self.objectives: Any = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        self.balance: Any = balance
        self.optimizer_factory, self.schedule_factory = optimizer, schedule
        self.seed, self.log_every_steps = seed, log_every_steps
        self.steps_per_epoch: int = 1
        self.on_nonfinite = "stop"
        self.pace = Pace(total_steps)
        self.clock: Callable[[], float] = float
        self.noted: dict[str, Tensor] = {}
        self.splits: list[str] = []
        self.samples: Mapping[str, Samples] = {}
        self.class_texts: list[list[str]] = []
        self.results: dict[str, float] = {}
        self.reported: list[str] | None = None
        self.gathered: dict[str, Gathered] = {}

    @property
    def total_steps(self) -> int | None:
        """The step at which the run ends, None where time alone ends it."""
        return self.pace.total_steps

    @total_steps.setter
    def total_steps(self, steps: int | None) -> None:
        self.pace.total_steps = steps

    heard: Callable[[Batch], Said] | None = None
    """What a teacher says of a batch, in words of this model's tokenizer; None for a task without one."""

    def views(self, batch: Batch, step: int, progress: float = 1.0) -> StepViews:
        """Return the batch as its objectives see it, at `progress`; without one as at the end of the run."""
        return StepViews(self.model, batch, self.seed, step, self._gather, self.heard, progress)

    def terms(self, views: StepViews) -> tuple[StepLosses, dict[str, Tensor]]:
        """Return the losses as a balance sees them, and every scalar to look at: `loss`, `loss_<name>`, metrics."""
        found: dict[str, Tensor] = {}
        given: dict[str, float] = {}
        seen: dict[str, Tensor] = {}
        counts: dict[str, Tensor] = {}
        for name, objective in self.objectives.items():
            losses, metrics, counted = objective(views)
            # One class may serve two objectives: the second one's losses then carry its name.
            called = {term: f"{name}_{term}" if term in found else term for term in losses}
            found |= {called[term]: value for term, value in losses.items()}
            counts |= {called[term]: value for term, value in counted.items()}
            given |= dict.fromkeys(called.values(), views.current(self.weights[name]))
            seen |= {term: value.detach() for term, value in metrics.items()}
        shares, totals = shares_of(counts, self._sum)
        found |= {name: share_of(found[name], share) for name, share in shares.items()}
        generator, scale = views.generator("balance"), self._loss_scale()
        whole = StepLosses(
            found, given, generator, self._shared, self._average, scale, "present" in views.batch, totals
        )
        numbers = {f"loss_{term}": value.detach() for term, value in found.items()}
        return whole, {"loss": (whole.given * whole.losses).sum().detach(), **numbers, **seen}

    def _shared(self) -> list[nn.Parameter]:
        return [parameter for parameter in self.model.parameters() if parameter.requires_grad]

    def on_train_start(self) -> None:
        """Keep what is frozen as in evaluation."""
        self.model.rest()

    def setup(self, stage: str) -> None:
        """Before training, bring loaded parameters into their range; what is only evaluated stays as it was loaded."""
        if stage == "fit":
            self.clamp_parameters()

    def clamp_parameters(self) -> None:
        """Have every objective that bounds a parameter (a logit scale) clamp it."""
        for objective in self.objectives.values():
            if hasattr(objective, "clamp_parameters"):
                objective.clamp_parameters()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one step; every `log_every_steps` steps its numbers are logged."""
        # Dropout as a function of the step, so that a resumed run draws as one that was not interrupted.
        # Not torch.manual_seed: for devices that are not there it notes at each call where it came from.
        number = crc32(f"{self.seed} {self.global_step} {self.global_rank}".encode())
        torch.default_generator.manual_seed(number)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(number)
        progress = self.pace.share(self.global_step)
        self.model.reach(progress)
        self.seen = self.views(batch, self.global_step, progress)
        losses, numbers = self.terms(self.seen)
        self.balanced = BalancedStep(self.balance, losses)
        if self._looks() and self.on_nonfinite == "stop":
            refuse_loss(
                self, {name: v for name, v in numbers.items() if name.startswith("loss")}, self.global_step, batch
            )
        if self._notes():
            self.note(numbers | self.balanced.numbers(cosines=self._cosines_are_due()))
        return self.balanced.loss + self._touched() if "present" in batch else self.balanced.loss

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Return the batch on `device`. It is made on the CPU, and need not be looked through there."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _touched(self) -> Tensor:
        """Return 0 with a gradient of 0 for every weight: what no row of a batch has is trained in other processes' parts."""
        return 0.0 * torch.stack([w.flatten()[:1].sum() for w in self.parameters() if w.requires_grad]).sum()

    def note(self, numbers: Mapping[str, Tensor]) -> None:
        """Keep numbers of the step under way for the log."""
        self.noted |= {f"train/{name}": value for name, value in numbers.items()}

    def on_train_batch_end(self, *_: Any) -> None:
        """Log what was noted. Lightning's own log would repeat at each step what only some of them note."""
        if not self.noted:
            return
        if self.trainer.world_size > 1:
            # A process's losses are of its own queries: a run's are those of all.
            names = sorted(name for name in self.noted if name.startswith("train/loss"))
            mean = self._average(torch.stack([self.noted[name] for name in names]))
            self.noted |= dict(zip(names, mean.unbind(), strict=True))
        self.trainer.callback_metrics.update(self.noted)
        numbers = {name: float(value) for name, value in self.noted.items()}
        for logger in self.trainer.loggers:
            logger.log_metrics({**numbers, "epoch": self.global_step / self.steps_per_epoch}, self.global_step - 1)
        self.noted = {}

    def on_after_backward(self) -> None:
        """Let the balance correct the gradients, before they are clipped."""
        self.balanced.after_backward()
        del self.balanced

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Take the step, and show a balance that learns from it what it did to the same batch."""
        if self._notes():
            # Before the schedule moves it. Layers and pretrained towers learn at a share of it (layer_decay, pretrained_lr).
            group = max(self.trainer.optimizers[0].param_groups, key=lambda group: group.get("lr_scale", 1.0))
            self.note({"learning_rate": torch.tensor(group["lr"] / group.get("lr_scale", 1.0), dtype=torch.float64)})
        counter = flop_counter() if self.pace.flops is None else None
        with counter or nullcontext():
            super().optimizer_step(*args, **kwargs)
            self.clamp_parameters()
            if hasattr(self.balance, "learn"):
                with self.trainer.precision_plugin.forward_context():
                    self.balance.learn(self.values_again(self.seen))
        del self.seen
        if counter:
            self.pace.flops = float(counter.get_total_flops() * self.trainer.world_size)

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Shorten the gradients of all weights, as one vector, to `gradient_clip_val`; their length before is noted with the log.

        Gradients that fp16 has multiplied, and that a fused optimizer will divide again, are clipped as they are.
        """
        noted = self._notes()
        if not (gradient_clip_val or self._looks()):
            return
        divides = getattr(optimizer, "_step_supports_amp_scaling", False)
        scale = self._loss_scale() if divides else 1.0
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        norm = get_total_norm([p.grad for p in trained if p.grad is not None])
        # What fp16 has multiplied beyond its range is found, and left out, by its own scaler.
        if self._loss_scale() == 1.0 and self._looks() and not torch.isfinite(norm):
            gone_bad(self, trained)
            return
        if gradient_clip_val:
            clip_grads_with_norm_(trained, gradient_clip_val * scale, norm)
        if noted:
            # Not through `note`: in fp16 a step whose gradients overflow is left out, and training goes on.
            self.noted["train/gradient_norm"] = norm / scale

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Look at the clock of the first process, once a step and before all that depends on it, and move the rate."""
        if self.pace.seconds:
            self.pace.spent = self.trainer.strategy.broadcast(self.clock())
        super().lr_scheduler_step(scheduler, metric)

    @torch.no_grad()
    def values_again(self, views: StepViews) -> Tensor:
        """Return the losses (K,) of a batch that was seen before, as the model is now."""
        with buffers_kept(self):
            losses, _ = self.terms(self.views(views.batch, views.step, views.progress))
        return losses.values

    def _cosines_are_due(self) -> bool:
        every = getattr(self.balance, "cosines_every", None)
        return every is not None and (self.global_step + 1) // self.log_every_steps % every == 0

    def _notes(self) -> bool:
        """Say whether the step under way is one that is logged."""
        return (self.global_step + 1) % self.log_every_steps == 0

    def _looks(self) -> bool:
        """Say whether the numbers of the step under way are looked at."""
        return self.device.type == "cpu" or self.on_nonfinite == "skip" or self._notes()

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Gather what the evaluation set's numbers are made of."""
        split = self.splits[dataloader_idx]
        # A row has the same masks and negatives in every evaluation, so that its curve is not noise, and in batches of any size.
        views = self.views(batch, 0)
        losses, numbers = self.terms(views)
        numbers = {name: self._gather(value.detach().view(1)).nanmean() for name, value in numbers.items()}
        rows = gathered_rows(views, dict(self.objectives.items()), self.samples[split], every=self.trainer.testing)
        counted = dict(losses.totals)
        for objective in self.objectives.values():
            # A loss that is a mean over the rows of all processes already says over how many.
            counted = (objective.evaluated_rows(views) if hasattr(objective, "evaluated_rows") else {}) | counted
        counts = {f"loss_{name}": float(total) for name, total in counted.items()}
        given = dict(zip((f"loss_{name}" for name in losses.names), losses.given.tolist(), strict=True))
        gathered = self.gathered.setdefault(split, Gathered())
        gathered.add(numbers, rows, len(batch["index"]) * self.trainer.world_size, counts, given)

    test_step = validation_step

    def on_validation_epoch_start(self) -> None:
        """Forget the evaluation before."""
        self.gathered = {}

    def on_validation_epoch_end(self) -> None:
        """Turn what was gathered into numbers, `<split>/<metric>`, in `results` and in the log."""
        objectives = dict(self.objectives.items())
        # As the texts of a batch are: encoded in the run's precision, and here once for all sets.
        with self.trainer.precision_plugin.forward_context():
            embed = self.first_with("embed").embed if self.class_texts else None
            classes = class_vectors(self.model, embed, self.class_texts).cpu() if embed else None
        shown: dict[str, float] = {}
        for split, gathered in self.gathered.items():
            with self.trainer.precision_plugin.forward_context():
                found = numbers_of(gathered, self.model, objectives, self.samples[split], classes)
            numbers = {f"{split}/{name}": value for name, value in found.items()}
            self.results |= numbers
            shown |= {name: value for name, value in numbers.items() if not name.endswith(("_chance", "candidates"))}
        testing = self.trainer.testing
        self.log_dict(shown, logger=testing, add_dataloader_idx=False, sync_dist=True)
        # Lightning's own count takes the whole run for one.
        epoch = self.global_step / self.steps_per_epoch
        self.log("epoch", epoch, logger=testing, sync_dist=True)
        # Lightning writes the row of a validation after the callbacks, one of which may end the run once its checkpoint is
        # written, and counts its step wrongly where a finished run goes on.
        for logger in () if testing else self.trainer.loggers:
            logger.log_metrics({**shown, "epoch": epoch}, self.global_step - 1)

    on_test_epoch_start = on_validation_epoch_start
    on_test_epoch_end = on_validation_epoch_end

    def _gather(self, tensor: Tensor) -> Tensor:
        """Return the rows of all processes; gradients flow to every process's own rows."""
        if self._trainer is None or self.trainer.world_size == 1:
            return tensor
        gathered: Any = self.all_gather(tensor, sync_grads=tensor.requires_grad)
        # Process r has the rows r, r + W, r + 2W, ... of the batch: here they are in the order in which one process has them.
        return gathered.transpose(0, 1).flatten(0, 1)

    def _sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over processes; without gradient."""
        return tensor if self._trainer is None else self.trainer.strategy.reduce(tensor.clone(), reduce_op="sum")

    def _average(self, tensor: Tensor) -> Tensor:
        """Return the mean over processes; without gradient."""
        return tensor if self._trainer is None else self.trainer.strategy.reduce(tensor, reduce_op="mean")

    def _loss_scale(self) -> float:
        """Return what fp16 multiplies the loss with before it goes back."""
        scaler = None if self._trainer is None else getattr(self.trainer.precision_plugin, "scaler", None)
        return scaler.get_scale() if scaler else 1.0

    def configure_optimizers(self) -> Any:
        """Return the optimizer over what is trained, and the schedule that ends with the budget."""
        optimizer = self.optimizer_factory(self)
        schedule = self.schedule_factory(optimizer, self.pace if self.pace.seconds else self.total_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the unit vectors (B, D) of every modality of the batch, in the space of the first objective that has one."""
        return self.first_with("embed").embed(self.model.encode(batch))

    def first_with(self, method: str) -> Any:
        """Return the first objective that has a method, None where none has."""
        return first_with(dict(self.objectives.items()), method)
