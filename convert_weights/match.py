"""Strict matching of source tensors with canonical names: each is used exactly once or listed as ignored."""

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from convert_weights.checkpoint import ConversionError, Unfit, listed, shown
from convert_weights.tensors import Tensor, as_float32, check_sharing, transformed_shape

Transform = Callable[[np.ndarray], np.ndarray]
# pattern of the source name, canonical name (None: ignored) from the match, transform (or the reason to ignore it)
Rule = tuple[str, Callable[[re.Match], str] | None, Transform | str]


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Matched:
    """A source tensor that was matched with a canonical name."""

    source: str
    tensor: Tensor
    shape: tuple[int, ...]
    transform: Transform | None

    def values(self) -> np.ndarray:
        """float32 values in canonical layout; may be a view."""
        try:
            values = as_float32(self.tensor)
        except ConversionError as error:
            raise ConversionError(f"tensor {shown(self.source, 80)}: {error}") from None
        return values if self.transform is None else self.transform(values)


def match(tensors: Mapping[str, Tensor], rules: Sequence[Rule], what: str) -> tuple[dict[str, Matched], dict[str, str]]:
    """Renames source tensors by the first rule whose pattern matches the whole name.

    Args:
        tensors: source name -> tensor.
        rules: the dialect's table.
        what: the network and dialect, for messages.
    Returns:
        canonical name -> Matched, and source name -> reason for the ignored ones.
    Raises:
        ConversionError: for tensors that no rule knows, and for two that claim one name.
    """
    found: dict[str, Matched] = {}
    ignored: dict[str, str] = {}
    unknown = []
    compiled = [(re.compile(pattern), name, action) for pattern, name, action in rules]
    for source, tensor in tensors.items():
        hit = next(((m, name, action) for p, name, action in compiled if (m := p.fullmatch(source))), None)
        if hit is None:
            unknown.append(source)
            continue
        m, name, action = hit
        if name is None:
            ignored[source] = str(action)
            continue
        canonical = name(m)
        if canonical in found:
            raise ConversionError(
                f"{what}: {shown(source)} and {shown(found[canonical].source)} both stand for {canonical}; the file is "
                "damaged"
            )
        found[canonical] = _matched(source, tensor, action if callable(action) else None)
    if unknown:
        raise Unfit(f"{what}: unknown tensors {listed(unknown)}; this variant of the network is not supported")
    return found, ignored


def _matched(source: str, tensor: Tensor, transform: Transform | None) -> Matched:
    if transform is None:
        return Matched(source, tensor, tuple(tensor.shape), None)
    try:
        return Matched(source, tensor, transformed_shape(tensor.shape, transform), transform)
    except (IndexError, ValueError) as error:
        reason = str(error) if isinstance(error, ConversionError) else f"has unexpected shape {list(tensor.shape)}"
        raise Unfit(f"tensor {shown(source, 80)}: {reason}") from None


def fill(found: Mapping[str, Matched], expected: Mapping[str, tuple[int, ...]], what: str) -> dict[str, np.ndarray]:
    """Reads every expected tensor into memory of its own, float32 and contiguous.

    Args:
        found: the matched tensors of the file by canonical name.
        expected: canonical name -> shape that the architecture has.
        what: the network and dialect, for messages.
    Raises:
        ConversionError: listing missing and unexpected names and wrong shapes, or naming a tensor with non-finite
        values.
    """
    missing = [f"{n} {list(s)}" for n, s in expected.items() if n not in found]
    unexpected = [f"{m.source} {list(m.shape)}" for n, m in found.items() if n not in expected]
    wrong = [
        f"{m.source} is {list(m.shape)}, not {list(expected[n])}"
        for n, m in found.items()
        if n in expected and m.shape != expected[n]
    ]
    parts = [
        f"{title} {listed(x)}"
        for title, x in (("missing", missing), ("unexpected", unexpected), ("wrong shape:", wrong))
        if x
    ]
    if parts:
        raise Unfit(f"{what}: the tensors do not fit its architecture; " + "; ".join(parts))
    check_sharing(found[name].tensor for name in expected)
    return {name: read_array(found[name]) for name in expected}


def read_array(matched: Matched) -> np.ndarray:
    """One tensor as finite, contiguous float32 that shares no memory with the file."""
    values = np.array(matched.values(), dtype=np.float32, order="C", copy=True)
    if not np.isfinite(values).all():
        raise ConversionError(
            f"tensor {shown(matched.source, 80)} holds values that are not finite; "
            "the training diverged or the file is damaged, use an earlier snapshot"
        )
    return values
