"""The base of every model on disk: frozen, unknown keys refused, no NaN or infinity."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator


def _one_name(name: str) -> str:
    if name in ("", ".", "..") or any(char in name for char in "/\\\0"):
        raise ValueError(f"{name!r:.60} is not the name of a file: it may lead out of its folder")
    return name


FileName = Annotated[str, AfterValidator(_one_name)]
"""What becomes a file or folder beside others: files of other people hold them, so that it never is a path."""


class Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        protected_namespaces=(),
        defer_build=True,  # a command needs few of the models, and building one takes milliseconds
    )

    def plain(self) -> dict[str, Any]:
        """The model as JSON-compatible Python values."""
        return self.model_dump(mode="json")


class Kept(Frozen):
    """What arbench has written, this version or a later one of the same schema: keys that are not known yet are read,
    kept and written back."""

    model_config = ConfigDict(extra="allow")


class Written(Frozen):
    """What a user writes in a suite: the docstring below a field is its meaning, which `arbench ls keys` shows."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_number_is_yes_or_no(cls, value: Any, info: ValidationInfo) -> Any:
        """`n: yes` would be one sample, and `scale: on` a scale of 1."""
        taken = cls.model_fields[info.field_name or ""].annotation
        given = value if isinstance(value, list | tuple) else (value,)
        said = next((each for each in given if isinstance(each, bool)), None)
        if said is not None and not _takes(taken, bool) and (_takes(taken, int) or _takes(taken, float)):
            raise ValueError(f"a number is expected, and {str(said).lower()} is not one")
        return value


def _takes(annotation: Any, kind: type) -> bool:
    """Whether a type, or one of those that it is put together from, is `kind`."""
    return annotation is kind or any(_takes(each, kind) for each in get_args(annotation))
