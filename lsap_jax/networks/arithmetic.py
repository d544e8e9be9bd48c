"""In which arithmetic convolutions and products of float32 are computed: chosen here, whatever the backend's default.

Accelerators round the operands to fewer digits unless they are told not to: to TF32 (10 bits after the point) on recent
GPUs, to bfloat16 (7 bits) on TPUs. Whatever is saved, shown, verified or measured is computed in full float32 (`FULL`).
Convolutions take what `precision()` says at the place where they are traced: full float32, except in the steps of an
optimisation that runs in `convolutions_in` another one. Dense layers take little time and are always full. On CPUs all
precisions are the same.
"""

from contextlib import AbstractContextManager

import jax

FULL = jax.lax.Precision.HIGHEST
PRECISIONS = {"highest": FULL, "high": jax.lax.Precision.HIGH, "default": jax.lax.Precision.DEFAULT}

# Part of the key under which `jit` keeps what it has traced, so that nothing traced in one is used in another.
_CHOSEN = jax.make_user_context("highest")


def precision() -> jax.lax.Precision:
    """The precision of convolutions that are traced here. A gradient is computed in that of its function."""
    return PRECISIONS[_CHOSEN.value]


def convolutions_in(name: str) -> AbstractContextManager[None]:
    """A context in which convolutions are traced in this precision, a key of `PRECISIONS`."""
    return _CHOSEN(name)  # type: ignore[no-any-return]
