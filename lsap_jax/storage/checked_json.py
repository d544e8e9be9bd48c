"""JSON that tells when a bit of it has changed: its last entry, "check", is a digest of the others.

A file must have the very bytes that its contents are written as, so that no change is too small to be seen. What comes
from elsewhere is parsed by `parsed` alone, which takes no more than JSON is.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

Record = dict[str, Any]
MOST_LEVELS = 64  # of lists and objects in each other; what is written here has about 8


def parsed(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: not JSON, or nested too deeply; NaN and Infinity, which Python writes and reads, are no JSON.
    """
    try:
        value = json.loads(data, parse_constant=_refused, parse_float=_finite)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:
        raise ValueError("is not JSON") from None
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [inner for outer in level if isinstance(outer, dict | list) for inner in _entries(outer)]
        if not level:
            return value
    raise ValueError("is nested too deeply")


def check_of(record: Mapping[str, Any]) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(record, sort_keys=True, allow_nan=False).encode("ascii")).hexdigest()


def json_bytes(value: Any) -> bytes:
    """Indented ASCII JSON."""
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode("ascii")


def sealed(record: Mapping[str, Any]) -> bytes:
    """A record as indented ASCII JSON that ends with its check."""
    return json_bytes({**record, "check": check_of(record)})


def unsealed(data: bytes) -> tuple[Record, bool]:
    """A record without its check, and whether it has one.

    Raises:
        ValueError: no JSON object, or one that has changed since it was sealed.
    """
    record = parsed(data)
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    if "check" not in record:
        return record, False
    del record["check"]
    if sealed(record) != data:
        raise ValueError("has changed since it was written")
    return record, True


def encode_record(record: Mapping[str, Any]) -> bytes:
    """A record as a line of ASCII JSON that ends with its check."""
    return (json.dumps({**record, "check": check_of(record)[:16]}, allow_nan=False) + "\n").encode("ascii")


def parse_record(line: bytes) -> Record:
    """The record of a line of `encode_record`.

    Raises:
        ValueError: it has changed.
    """
    record = parsed(line)
    if not isinstance(record, dict):
        raise ValueError("is not a JSON object")
    record.pop("check", None)
    if encode_record(record) != line:
        raise ValueError("has changed since it was written")
    return record


def _entries(value: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value


def _finite(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text} is larger than any number here")
    return value


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
