"""Bounds of network configurations, checked before anything is computed from them.

The fields of a configuration's dataclass declare what they hold: their types, and with `Annotated` the range of each.
`checked` reads these declarations, so a header that a file brings is compared with them before its shapes are traced.
"""

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
Rule = Callable[[Any], str | None]  # a value of the right type to what it should be, or None where it is that

MOST_ITEMS = 4096  # of any list or object
MOST_TEXT = 200  # characters
MOST_TAPS = 32  # of a resampling filter along each axis; StyleGAN2's has 4


SCALARS: dict[type, tuple[tuple[type, ...], str]] = {
    float: ((float, int), "a finite number"),
    int: ((int,), "an integer"),
    bool: ((bool,), "true or false"),
    str: ((str,), "text"),
}


def between(low: float, high: float) -> Rule:
    """Numbers from `low` to `high`."""
    return lambda value: None if low <= value <= high else f"{low} to {high}"


def length(low: int, high: int) -> Rule:
    """Lists of `low` to `high` entries."""
    return lambda value: None if low <= len(value) <= high else f"a list of {low} to {high} entries"


def resampling_filter(value: tuple) -> str | None:
    """Normalised taps: numbers, or the rows of a square."""
    rows = value if value and all(isinstance(row, tuple) for row in value) else (value,)
    square = rows is not value or 1 < len(rows) <= MOST_TAPS and all(len(row) == len(rows) for row in rows)
    taps = [tap for row in rows[:MOST_TAPS] for tap in row[: MOST_TAPS + 1]]
    if not square or not all(type(tap) in (int, float) and -100 <= tap <= 100 for tap in taps):
        return f"a list of at most {MOST_TAPS} numbers, or a square of at least 2 x 2"
    if not 0 < len(rows[0]) <= MOST_TAPS or abs(sum(taps) - 1) > 1e-3:
        return f"at most {MOST_TAPS} taps whose sum is 1"
    return None


# Four times the largest published networks of these families, or more.
Channels = Annotated[int, between(1, 2**14)]
Count = Annotated[int, between(0, 2**14)]
Layers = Annotated[int, between(1, 64)]
Side = Annotated[int, between(1, 2**13)]
Widths = Annotated[tuple[Channels, ...], length(1, 12)]
Gain = Annotated[float, between(1e-6, 1e3)]
Clamp = Annotated[float, between(1e-6, 1e6)]
Filter = Annotated[tuple, resampling_filter]
Text = Annotated[str, length(0, MOST_TEXT)]


def checked(config: Callable[..., T], header: Mapping[str, Any]) -> T:
    """A header of a file as this dataclass (or NamedTuple); lists become tuples, since configurations are hashable.

    Fields are int, float, bool, str, Literal, dict and tuple of them, dataclasses, or one of these or None.

    Raises:
        ValueError: an entry has another type than its field, or lies outside the declared range.
        TypeError: an entry is missing or unknown.
    """
    hints = get_type_hints(config, include_extras=True)
    unknown = [key for key in header if key not in hints]
    if unknown:
        raise TypeError(f"unknown entry {unknown[0][:MOST_TEXT]!r}")
    return config(**{key: _as(hints[key], value, key) for key, value in header.items()})


def _as(hint: Any, value: Any, name: str) -> Any:
    """The value as the type has it."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        own = _as(args[0], value, name)
        for rule in args[1:]:
            if (wanted := rule(own)) is not None:
                raise _refusal(name, value, wanted)
        return own
    if origin in (Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _as(next(arg for arg in args if arg is not type(None)), value, name)
    if origin is Literal:
        if type(value) is str and value in args:
            return value
        raise _refusal(name, value, f"one of {', '.join(map(str, args))}")
    if hint is tuple or origin is tuple:
        return _as_tuple(args, value, name)
    if origin is dict:
        if not isinstance(value, Mapping) or len(value) > MOST_ITEMS:
            raise _refusal(name, value, f"an object of at most {MOST_ITEMS} entries")
        return {_as(args[0], key, name): _as(args[1], one, name) for key, one in value.items()}
    if dataclasses.is_dataclass(hint) or hasattr(hint, "_fields"):
        if not isinstance(value, Mapping):
            raise _refusal(name, value, "an object")
        return checked(hint, value)
    allowed, wanted = SCALARS[hint]
    if type(value) not in allowed or type(value) is float and not math.isfinite(value):
        raise _refusal(name, value, wanted)
    return value


def _as_tuple(args: tuple, value: Any, name: str) -> tuple:
    if not isinstance(value, list | tuple) or len(value) > MOST_ITEMS:
        raise _refusal(name, value, f"a list of at most {MOST_ITEMS} entries")
    if not args:  # numbers, or rows of numbers: the rule decides
        return tuple(tuple(one) if isinstance(one, list | tuple) else one for one in value)
    if args[-1] is ...:
        return tuple(_as(args[0], one, name) for one in value)
    if len(value) != len(args):
        raise _refusal(name, value, f"a list of {len(args)} entries")
    return tuple(_as(arg, one, name) for arg, one in zip(args, value, strict=True))


def _refusal(name: str, value: Any, wanted: str) -> ValueError:
    plain = value is None or isinstance(value, str | int | float)
    shown = repr(value)[:60] if plain else f"{len(value)} entries"
    return ValueError(f"{name} is {shown}, it can be {wanted}")
