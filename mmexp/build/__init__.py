"""From configuration to objects. The only room that instantiates; each function builds one thing from plain arguments."""

from mmexp.build.adapting import adapter_of, adapters_of
from mmexp.build.assembling import Assembled, assemble, starting_weights
from mmexp.build.choosing import best_by, check_best, monitored_by
from mmexp.build.classes import class_heads, classes_of
from mmexp.build.making import ASSETS, Config, factory, make
from mmexp.build.monitoring import check_monitor, check_searched, declared, validated
from mmexp.build.parts import (
    answers_wanted,
    data_source,
    further,
    loading,
    model,
    objectives,
    stepping,
    strong,
    variation,
)
from mmexp.build.resting import rest_unreached
from mmexp.build.restoring import best_checkpoint, chosen_layers, config_beside, restore, run_config, weights_of
from mmexp.build.running import balance, class_texts, keeping, own_teacher, prefixes, task
from mmexp.build.teaching import (
    check_teacher,
    foreign,
    says,
    self_taught_objectives,
    shape_of,
    teacher,
    teaches_itself,
)

__all__ = [
    "ASSETS",
    "Assembled",
    "Config",
    "adapter_of",
    "adapters_of",
    "answers_wanted",
    "assemble",
    "balance",
    "best_by",
    "best_checkpoint",
    "check_best",
    "check_monitor",
    "check_searched",
    "check_teacher",
    "chosen_layers",
    "class_heads",
    "class_texts",
    "classes_of",
    "config_beside",
    "data_source",
    "declared",
    "factory",
    "foreign",
    "further",
    "keeping",
    "loading",
    "make",
    "model",
    "monitored_by",
    "objectives",
    "own_teacher",
    "prefixes",
    "rest_unreached",
    "restore",
    "run_config",
    "says",
    "self_taught_objectives",
    "shape_of",
    "starting_weights",
    "stepping",
    "strong",
    "task",
    "teacher",
    "teaches_itself",
    "validated",
    "variation",
    "weights_of",
]
