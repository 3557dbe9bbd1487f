"""Settings with names: dataclasses whose fields have kinds, read from a model's YAML or from keywords."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field
from typing import Any, ClassVar, TypeVar

from .errors import UsageError, closest
from .values import Kind, check_values, shown

S = TypeVar("S", bound="Settings")


class Settings:
    """Base of the frozen dataclasses of settings; a field's default always passes.

    Attributes:
        SECTION: what messages call them: a key of the model's YAML, or a command.
        KINDS: what each field may be.
        WORDS: by field, words of a YAML and what they stand for.

    Raises:
        UsageError: for a value that is not of its field's kind.
    """

    SECTION: ClassVar[str]
    KINDS: ClassVar[Mapping[str, Kind]]
    WORDS: ClassVar[Mapping[str, Mapping[Any, Any]]] = {}
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in self.KINDS}
        fields = self.__dataclass_fields__
        check_values({name: value for name, value in given.items() if value is not fields[name].default}, self.KINDS)

    @classmethod
    def from_dict(cls: type[S], given: Mapping[str, Any] | None) -> S:
        """Read the settings from keys and values.

        Raises:
            UsageError: for a key that does not exist, or a value that is not of its kind.
        """
        given = {} if given is None else given
        if not isinstance(given, Mapping):
            raise UsageError(f"{cls.SECTION}={shown(given)}: give keys with values, of {', '.join(cls.KINDS)}.")
        for key in given:
            if key not in cls.KINDS:
                raise UsageError(f"{cls.SECTION} has no key {shown(key)}: {closest(str(key), cls.KINDS)}")
        return cls(**{key: _meant(value, cls.WORDS.get(key, {})) for key, value in given.items()})


def _meant(value: Any, words: Mapping[Any, Any]) -> Any:
    """Return what a word stands for; 0 is not False here."""
    return words[value] if isinstance(value, (str, bool)) and value in words else value
