"""Values of a request, a JSON object from anywhere: each is of its type and in its range, or refused by name."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from lsap_jax.errors import LsapError

Fields = Mapping[str, Any]


def text(fields: Fields, name: str, default: str | None = None, most: int = 300) -> str:
    """A text of at most `most` characters."""
    value = fields.get(name, default)
    if not isinstance(value, str) or len(value) > most:
        raise LsapError(f"{name}={_short(value)}: a text of at most {most} characters is needed")
    return value


def number(fields: Fields, name: str, low: float, high: float, default: float | None = None) -> float:
    """A finite number from `low` to `high`."""
    value = fields.get(name, default)
    if type(value) not in (int, float) or not math.isfinite(value) or not low <= value <= high:
        raise LsapError(f"{name}={_short(value)}: a number from {low:g} to {high:g} is needed")
    return float(value)


def whole(fields: Fields, name: str, low: int, high: int, default: int | None = None) -> int:
    """A whole number from `low` to `high`."""
    value = fields.get(name, default)
    if type(value) is not int or not low <= value <= high:
        raise LsapError(f"{name}={_short(value)}: a whole number from {low} to {high} is needed")
    return value


def choice(fields: Fields, name: str, options: Collection[str], default: str | None = None) -> str:
    """One of some texts."""
    value = fields.get(name, default)
    if not isinstance(value, str) or value not in options:
        raise LsapError(f"{name}={_short(value)}: choose one of {', '.join(options)}")
    return value


def switch(fields: Fields, name: str) -> bool:
    """True or false; false if it is not given."""
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise LsapError(f"{name}={_short(value)}: true or false is needed")
    return value


def objects(fields: Fields, name: str, most: int) -> list[Fields]:
    """A list of at most `most` JSON objects; empty if it is not given."""
    value = fields.get(name, [])
    if not isinstance(value, list) or len(value) > most or not all(isinstance(one, dict) for one in value):
        raise LsapError(f"{name}={_short(value)}: a list of at most {most} objects is needed")
    return value


def _short(value: Any) -> str:
    return repr(value)[:60]
