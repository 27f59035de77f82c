"""What all shapes share: strictness, and how one key holds a value of one kind or another."""

from pydantic import BaseModel, ConfigDict, Discriminator


class Shape(BaseModel):
    """A table of the file; keys that it does not name are errors."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def is_tag(part: object) -> bool:
    """Tell the name of a union's member, which stands in <>, from a part of a key path."""
    return isinstance(part, str) and part.startswith("<") and part.endswith(">")


def by_type(tags: dict[type, str], wants: str) -> Discriminator:
    """Choose the member of a union by the type of the value."""
    return Discriminator(
        lambda value: tags.get(type(value)),
        custom_error_type="relbuild",
        custom_error_message=f"it must be {wants}",
    )
