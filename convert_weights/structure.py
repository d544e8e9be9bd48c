"""The contents of a container, before the dialect is known."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from convert_weights.builders import Array
from convert_weights.checkpoint import ConversionError
from convert_weights.pickle_machine import MAX_STEPS
from convert_weights.tensors import Tensor

Flat = Mapping[str, Tensor]


class Structure:
    """The object in a file, and its tensors by name.

    Attributes:
        root: a dict, a tensor, a node of a pickle, a tuple of them, or the `Archive` of a wheel.
        container: the kind of container, e.g. "torch file" or ".npz"; part of the format's name.
    """

    def __init__(self, root: Any, container: str) -> None:
        self.root, self.container = root, container

    @property
    def placed(self) -> str:
        """The container with its article."""
        return f"{'an' if self.container.startswith('.') else 'a'} {self.container}"

    @property
    def mapping(self) -> dict:
        """The root if it is a dict, else an empty dict."""
        return self.root if isinstance(self.root, dict) else {}

    @cached_property
    def tensor(self) -> Tensor | None:
        """The root if it is a single tensor, else None."""
        root = self.root.tensor if isinstance(self.root, Array) else self.root
        return root if isinstance(root, Tensor) else None

    @cached_property
    def own(self) -> Flat:
        """The tensors directly in the root."""
        return _tensors(self.mapping)

    @cached_property
    def parts(self) -> Mapping[str, Flat]:
        """The tensors in each dict of the root that holds tensors."""
        dicts = {str(k): v for k, v in self.mapping.items() if isinstance(v, dict)}
        if sum(map(len, dicts.values())) > MAX_STEPS:
            raise ConversionError("holds the same entries under many names; refused as hostile")
        inside = {name: _tensors(value) for name, value in dicts.items()}
        return {name: flat for name, flat in inside.items() if flat}

    def with_tensor(self, name: str) -> Flat | None:
        """The first set of tensors with this name among the root's own and those of the parts."""
        return next((flat for flat in (self.own, *self.parts.values()) if name in flat), None)

    def candidates(self, *names: str) -> dict[str, Flat]:
        """The parts with these names, in this order, as far as they exist; {"": the root's own tensors} if none does.

        A dialect is recognised from any of them, but only the first is read: if the averaged network is damaged, the
        plain one must not take its place.
        """
        return {name: self.parts[name] for name in names if name in self.parts} or {"": self.own}


def _tensors(value: Mapping) -> dict[str, Tensor]:
    """The tensors directly in a dict, numpy arrays included."""
    plain = {str(k): v.tensor if isinstance(v, Array) else v for k, v in value.items()}
    return {k: v for k, v in plain.items() if isinstance(v, Tensor)}
