"""Fine-tuning: a model that comes with weights goes on learning, as much of it as the adapter leaves open."""

from mmexp.tasks.base import Task


class Finetune(Task):
    """Training starts from the loaded weights' own mode: dropout and norms of frozen parts stay as in evaluation."""

    def on_train_epoch_start(self) -> None:
        """Keep fully frozen parts in evaluation mode, so that their dropout rests as well."""
        super().on_train_epoch_start()
        for part in [*self.model.encoders.values(), self.model.fusion]:
            if not any(p.requires_grad for p in part.parameters()):
                part.eval()
