"""What may be asked of a server, and the plain words where it is something else."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Text = Annotated[str, Field(min_length=1, max_length=10_000)]


class Wrong(Exception):
    """A request that is answered with a status of 4xx and one line."""

    def __init__(self, status: int, told: str):
        super().__init__(told)
        self.status, self.told = status, told


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Item(_Exact):
    """A text, or a picture as the base64 of a file."""

    text: Text | None = None
    image: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> "Item":
        if (self.text is None) == (self.image is None):
            raise ValueError("an item has either text or image")
        return self


Items = Annotated[list[Item], Field(min_length=1)]


class Embed(_Exact):
    """Items to unit vectors."""

    items: Items


class Similarity(_Exact):
    """Two lists of items to the cosines between them."""

    left: Items
    right: Items


class Search(_Exact):
    """The files of the index that are nearest to an item."""

    item: Item
    count: Annotated[int, Field(ge=1, le=100)] = 10


class Classify(_Exact):
    """An item to how likely each of some classes is, told in words; a template holds {} for the class."""

    item: Item
    classes: Annotated[list[Text], Field(min_length=2, max_length=1000)]
    templates: Annotated[list[Text], Field(min_length=1, max_length=100)] = ["{}"]

    @model_validator(mode="after")
    def _place(self) -> "Classify":
        if any("{}" not in template for template in self.templates):
            raise ValueError("a template holds {} in the place of the class")
        return self


PATHS: dict[str, type[_Exact]] = {
    "/embed": Embed,
    "/similarity": Similarity,
    "/search": Search,
    "/classify": Classify,
}


def check(path: str, body: bytes, most: int) -> None:
    """Raise Wrong for a body that is not what `path` takes, or has more than `most` items."""
    try:
        asked: Any = PATHS[path].model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise Wrong(400, f"the body is not JSON: {first['msg'][:200]}") from error
        place = ".".join(str(part) for part in first["loc"])
        raise Wrong(422, f"{place or 'the body'}: {first['msg']}") from error
    count = len(getattr(asked, "items", ())) + len(getattr(asked, "left", ())) + len(getattr(asked, "right", ()))
    if count > most:
        raise Wrong(413, f"{count} items are more than the {most} of one request")
