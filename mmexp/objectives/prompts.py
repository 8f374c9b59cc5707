"""Class names put into words."""

from collections.abc import Sequence

from mmexp.errors import RequestError


class Prompts:
    """Several texts of each class, one by each template, as CLIP's zero-shot classifier has them (arXiv:2103.00020, 3.1.4).

    `{}` in a template is where the name goes. Raises RequestError for a template without it, and where there is none.
    """

    def __init__(self, templates: list[str]):
        if not templates:
            raise RequestError("prompts.templates is empty. Set prompts.templates=['{}'], the names alone.")
        for template in templates:
            if template.count("{}") != 1:
                raise RequestError(
                    f"the template '{template}' has no single place for the name: write {{}} where it goes."
                )
        self.templates = templates

    def texts(self, classes: Sequence[str]) -> list[list[str]]:
        """Return for each class its texts, one a template."""
        return [[template.replace("{}", readable(name)) for template in self.templates] for name in classes]


def readable(name: str) -> str:
    """Return the name of a class as words: `animal-mammal` is `animal mammal`."""
    return " ".join(name.replace("-", " ").replace("_", " ").split())
