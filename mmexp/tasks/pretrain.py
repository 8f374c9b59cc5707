"""Pretraining: a model learns from pairs by whatever objectives are composed."""

from mmexp.tasks.base import Task


class Pretrain(Task):
    """The base task as it is, from fresh or loaded weights."""
