"""All tasks at once: what a method against forgetting could reach at best."""

from mmexp.continual.plain import Plain


class Joint(Plain):
    """Batches of the rows of all tasks, as many steps in all as the tasks in sequence have together."""

    joint = True
