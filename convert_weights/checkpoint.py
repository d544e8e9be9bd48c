"""The result of a conversion, and the one error that it raises."""

import dataclasses
from typing import Any

import numpy as np


class ConversionError(ValueError):
    """A file cannot be converted; one line names the file, the offending part and the remedy."""


class Unfit(ConversionError):
    """Tensors are not those of the network that they are read as; the file itself is sound."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """One network (or codes) of a file, in canonical names and layouts.

    Attributes:
        kind: "generator", "discriminator", "psp" (the encoders of pSp and its relatives), "idinvert",
            "latent_discriminator", "basecode", "backbone", "lpips_lin", "lpips", "inception", "inception_resnet_v1",
            "arcface", "dlib_resnet", "moco", "mtcnn" or "codes".
        config: JSON-able description of the architecture; its keys depend on `kind`.
        arrays: canonical name -> float32 array in torch layouts (OIHW, [out, in]). Generators and discriminators have
            the names of NVlabs/stylegan2-ada-pytorch, biases of the style affines including their 1, up-sampling
            kernels in NVlabs orientation, and no `resample_filter`; StyleGAN1's are in `convert_weights.stylegan1`.
    """

    kind: str
    config: dict
    arrays: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The contents of one foreign file.

    Attributes:
        format: container and dialect in words, e.g. "NVlabs stylegan2-ada-pytorch pickle".
        parts: kind -> part, the main one first.
        ignored: source tensor (or "prefix*" for a whole part) -> why it is not used.
        refused: kind -> why a part of the file that should come with the main one is not among the parts.
        notes: remarks such as "w_avg estimated from 10000 samples".
        licence: licence of the source weights where known.
        sha256: hexadecimal SHA-256 of the source file.
        halves: provenance of each source file by its role, if there are several.
    """

    format: str
    parts: dict[str, Part]
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    licence: str | None = None
    sha256: str = ""
    halves: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @property
    def kind(self) -> str:
        """Kind of the main part."""
        return next(iter(self.parts))

    @property
    def provenance(self) -> dict[str, Any]:
        """The provenance that a converted file records; JSON-able."""
        if self.halves:
            return dict(self.halves)
        return {
            "format": self.format,
            "source_sha256": self.sha256,
            "licence": self.licence,
            "notes": list(self.notes),
            "ignored": len(self.ignored),
        }


def together(*parts: Part | None) -> dict[str, Part]:
    """The parts by kind; None is left out."""
    return {part.kind: part for part in parts if part is not None}


def printable(text: str) -> str:
    """A text as a terminal may have it: control characters of names inside files are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shown(value: object, limit: int = 60) -> str:
    """A value from an untrusted file as short printable text for an error message."""
    text = (
        value if isinstance(value, str) else repr(value) if isinstance(value, (int, float, bytes)) else str(type(value))
    )
    text = text[: 4 * limit].encode("unicode_escape").decode("ascii")
    return text if len(text) <= limit else text[: limit - 3] + "..."


def listed(names: list[str], limit: int = 6) -> str:
    """The first few of many names, with the count of the others."""
    head = ", ".join(shown(n, 80) for n in names[:limit])
    return head + (f" and {len(names) - limit} more" if len(names) > limit else "")
