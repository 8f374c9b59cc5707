"""Fine-tuning: a model that comes with weights goes on learning, as much of it as the adapter leaves open."""

from mmexp.tasks.base import Task


class Finetune(Task):
    """The base task as it is, on loaded weights; its name tells the stage."""
