"""The options of pivotal tuning: defaults, ranges, and the refiner that they make."""

from typing import Any

from lsap_jax.errors import LsapError
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import PRECISIONS
from lsap_jax.refinement.locality import Locality
from lsap_jax.refinement.options import check_ranges, check_something_is_minimised, judge_of
from lsap_jax.refinement.pti import Pti, trained

# The original's values, but for what is stored. `stop` -1 is the original's with LPIPS; features of a discriminator
# have another scale, and no image stops early; nor does one of several that share a generator.
OPTIONS: dict[str, Any] = {
    "steps": 350,
    "lr": 3e-4,
    "stop": -1.0,
    "mse": 1.0,
    "perceptual": 1.0,
    "network": "auto",
    "lpips": "",
    "resolution": 0,
    "shared": False,
    "rank": 4,
    "layers": "",
    "mapping": False,
    "locality": False,
    "locality_alpha": 30.0,
    "locality_psi": 0.5,
    "locality_mse": 0.1,
    "locality_perceptual": 0.1,
    "locality_interval": 1,
    "keep": "last",
    "dtype": "float16",
    "precision": "high",
}
STOP = 0.06
LEAST = {"steps": 0, "resolution": 0, "rank": 0, "mse": 0, "perceptual": 0, "locality_interval": 1}
CHOICES = {"keep": ("last", "best"), "dtype": ("float16", "float32"), "precision": tuple(PRECISIONS)}


def make(G: Generator, weights: str | None, **options: Any) -> Pti:
    """Pivotal tuning with these options, all of `OPTIONS`.

    Raises:
        LsapError: a value is out of range, or the judge that is named is not available.
    """
    if weights is not None:
        raise LsapError(f"--weights={weights}: pti has no networks of its own; name LPIPS by --config.refine.lpips")
    check_ranges(options, least=LEAST, positive=("lr",), choices=CHOICES)
    judge = judge_of(G, options)
    check_something_is_minimised(options, judge is not None)
    if options["shared"] and options["keep"] != "last":
        raise LsapError(f"refine.keep={options['keep']!r}: one generator for all images is that of the last step")
    if options["stop"] < 0:
        stops = judge is not None and judge.name.startswith("lpips") and not options["shared"]
        options["stop"] = STOP if stops else 0.0
    part = {key.removeprefix("locality_"): value for key, value in options.items() if key.startswith("locality_")}
    plain = ("steps", "lr", "stop", "mse", "perceptual", "shared", "rank", "mapping", "keep", "dtype", "precision")
    pti = Pti(
        judge=judge,
        layers=tuple(name.strip() for name in options["layers"].split(",") if name.strip()),
        locality=Locality(**part) if options["locality"] else None,
        **{key: options[key] for key in plain},
    )
    trained(G, 0, pti.layers, pti.mapping)
    return pti
