"""What a conversion yields, and the one error it raises."""

import dataclasses
from typing import Any

import numpy as np


class ConversionError(ValueError):
    """A file that cannot be converted: one line that names the file, the offending part and what to do."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The weights of one foreign file in canonical names and layouts.

    Attributes:
        kind: "stylegan2", "backbone", "lpips_lin", "inception", "basecode_encoder", "inception_resnet_v1", "arcface",
            "mtcnn" or "codes".
        format: container and dialect for people, e.g. "NVlabs stylegan2-ada-pytorch pickle".
        config: JSON-able description of the architecture; its keys depend on `kind`.
        arrays: canonical name -> float32 array in torch layouts (OIHW, [out, in]). For "stylegan2" the names are
            "generator/<name>" and "discriminator/<name>" with the names of NVlabs/stylegan2-ada-pytorch, biases of the
            style affines including their 1, up-sampling kernels in NVlabs orientation, and no `resample_filter`.
        ignored: source tensor (or "prefix*" for a whole part) -> why it is not used.
        notes: remarks such as "w_avg estimated from 10000 samples".
        licence: licence of the source weights where known.
        sha256: hexadecimal SHA-256 of the source file.
    """

    kind: str
    format: str
    config: dict
    arrays: dict[str, np.ndarray]
    ignored: dict[str, str] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    licence: str | None = None
    sha256: str = ""

    @property
    def provenance(self) -> dict[str, Any]:
        """What a converted file says of its source; JSON-able."""
        return {
            "format": self.format,
            "source_sha256": self.sha256,
            "licence": self.licence,
            "notes": list(self.notes),
            "ignored": len(self.ignored),
        }


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
