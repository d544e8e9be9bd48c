"""What the options of the methods have in common: how their ranges are checked, and the judge that they name."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from lsap_jax.errors import LsapError
from lsap_jax.losses.judges import Judge, perceptual
from lsap_jax.models.generator import Generator

# Features of VGG16 (`perceptual.network=vgg`) compare pictures blackened where a mask is, which refiners do not make.
NETWORKS = ("auto", "lpips", "discriminator", "none")


def check_ranges(
    options: Mapping[str, Any],
    *,
    least: Mapping[str, float] | None = None,
    positive: Sequence[str] = (),
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Checks options by name.

    Args:
        least: finite numbers that are this or more.
        positive: finite numbers above 0.
        choices: words, each one of these.

    Raises:
        LsapError: a value is out of its range.
    """
    for key, bound in (least or {}).items():
        if not bound <= options[key] < float("inf"):
            raise LsapError(f"refine.{key}={options[key]}: needs to be {bound} or more")
    for key in positive:
        if not 0 < options[key] < float("inf"):
            raise LsapError(f"refine.{key}={options[key]}: has to be more than 0")
    for key, known in (choices or {}).items():
        if options[key] not in known:
            raise LsapError(f"refine.{key}={options[key]!r}: choose one of {', '.join(known)}")


def check_something_is_minimised(options: Mapping[str, Any], judged: bool = True) -> None:
    """Raises LsapError where neither pixels nor features, which need a judge, count."""
    if not options["mse"] + options["perceptual"] > 0:
        raise LsapError("refine.mse=0 and refine.perceptual=0: nothing is left to minimise; give one of them a weight")
    if not options["mse"] > 0 and not judged:
        raise LsapError(
            f"refine.mse=0 and refine.network={options['network']}: there is no network to compare images by, and "
            "nothing is left to minimise; name LPIPS by --config.refine.lpips, or give refine.mse a weight"
        )


def judge_of(G: Generator, options: Mapping[str, Any]) -> Judge | None:
    """The perceptual distance that options name: `network`, `lpips`, a file, and `resolution`, 0 being that of G's
    images; None where there is none.

    Raises:
        LsapError: no such network, or its weights are missing.
    """
    check_ranges(options, choices={"network": NETWORKS})
    side = options["resolution"] or G.img_resolution
    asked = {"network": options["network"], "weights": options["lpips"], "resolution": side}
    return perceptual(ConfigDict({"perceptual": asked}), G).judge


def needed_judge(method: str, G: Generator, options: Mapping[str, Any]) -> Judge:
    """As `judge_of`.

    Raises:
        LsapError: there is none.
    """
    judge = judge_of(G, options)
    if judge is None:
        raise LsapError(
            f"method {method!r}: compares images by LPIPS or by the features of a discriminator, and there is neither; "
            "name converted weights with --config.refine.lpips"
        )
    return judge
