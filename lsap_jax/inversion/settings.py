"""The configuration of an inversion: its checks, and the options of the loop made from it."""

from collections.abc import Sequence

import jax
from ml_collections import ConfigDict

from lsap_jax.configuration import flat
from lsap_jax.data.fitting import BARRED
from lsap_jax.errors import LsapError
from lsap_jax.inversion import loop
from lsap_jax.inversion.objective import objective_from_config
from lsap_jax.inversion.optimizers import RETRACTIONS, SCHEDULES
from lsap_jax.inversion.prepare import Start
from lsap_jax.losses.terms import TERMS
from lsap_jax.models.classes import no_class
from lsap_jax.models.generator import Generator
from lsap_jax.networks.arithmetic import PRECISIONS
from lsap_jax.networks.image_by_image import images_at_once
from lsap_jax.networks.winograd import paying_channels
from lsap_jax.spaces import Space
from lsap_jax.spaces.space import STARTS


def minimised(config: ConfigDict) -> dict[str, float]:
    """The weights of the loss that codes were found by, term -> weight; none where no step is taken. Codes that are
    given (`init.codes`) may have been found by this loss.
    """
    steps = config.steps > 0 or config.init.w_steps > 0 or bool(config.init.get("codes"))
    return {name: weight for name, weight in flat(config.loss).items() if weight > 0} if steps else {}


def check(config: ConfigDict) -> None:
    """Raises LsapError for a value that is unknown or out of range."""
    if "refine" in config:
        raise LsapError(
            f"refine.method={config.refine.method!r}: this preset has a second stage, which the commands invert and "
            "encode take alone; invert by a preset without it, and refine what comes out by `lsap_jax.refine`"
        )
    for key, least in (("steps", 0), ("batch_size", 1), ("chunk", 1)):
        if config[key] < least:
            raise LsapError(f"{key}={config[key]}: needs to be {least} or more")
    if config.retraction not in RETRACTIONS:
        raise LsapError(f"retraction={config.retraction!r}: choose one of {', '.join(RETRACTIONS)}")
    if config.optimizer.name != "adam":
        known = "choose adam (retraction='riemannian' is its spherical form)"
        raise LsapError(f"optimizer.name={config.optimizer.name!r}: {known}")
    if config.optimizer.schedule not in SCHEDULES:
        raise LsapError(f"optimizer.schedule={config.optimizer.schedule!r}: choose one of {', '.join(SCHEDULES)}")
    if not (config.optimizer.lr > 0 and config.optimizer.lr_f >= 0):
        raise LsapError("optimizer: lr has to be more than 0, lr_f 0 or more")
    if config.init.detail not in (*STARTS, "encoder", "near"):
        raise LsapError(f"init.detail={config.init.detail!r}: choose one of {', '.join(STARTS)}, encoder, near")
    if config.init.w_steps < 0:
        raise LsapError(f"init.w_steps={config.init.w_steps}: needs to be 0 or more")
    if not 0 <= config.eigenvalue_floor < 1:
        raise LsapError(f"eigenvalue_floor={config.eigenvalue_floor}: is a part of the largest variance, 0 to below 1")
    if not (config.latent_noise.scale >= 0 and config.latent_noise.until > 0):
        raise LsapError("latent_noise: scale has to be 0 or more, until more than 0")
    if config.converge.patience < 0 or not 0 <= config.converge.tolerance < 1:
        raise LsapError("converge: patience has to be 0 or more steps, tolerance a part from 0 to below 1")
    if config.compute.half_blocks < 0:
        raise LsapError(f"compute.half_blocks={config.compute.half_blocks}: has to be 0 or more blocks")
    if min(config.compute.winograd, config.compute.together) < -1:
        raise LsapError("compute: winograd and together have to be 0 or more, or -1 for the measured defaults")
    if config.compute.precision not in PRECISIONS:
        raise LsapError(f"compute.precision={config.compute.precision!r}: choose one of {', '.join(PRECISIONS)}")
    if config.keep not in ("best", "last"):
        raise LsapError(f"keep={config.keep!r}: choose best or last")
    if config.noise_mode not in ("const", "none"):
        raise LsapError(
            f"noise_mode={config.noise_mode!r}: an inversion needs const or none, as random noise cannot be reproduced"
        )


def start_from_config(config: ConfigDict, G: Generator) -> Start:
    """Where codes begin; "near" is the latent encoder where there is one, else the mean w.

    Raises:
        LsapError: the configuration insists on a latent encoder, and the generator has none, or one whose pictures
            are fitted in another way; or it asks for random starts of a conditional generator without a class.
    """
    detail = config.init.detail
    asking = ["init.detail='encoder'"] if detail == "encoder" else []
    weights = {name: config.loss.get(name, 0.0) for name, term in TERMS.items() if term.needs_encoder}
    asking += [f"loss.{name}={weight}" for name, weight in weights.items() if weight > 0]
    if G.encoder is None and asking:
        raise LsapError(
            f"{asking[0]} needs a latent encoder, and this generator comes without one: name one by --encoder (in "
            "Python, the second argument of `lsap_jax.encode`), as `lsap-jax models` lists them, or train one with "
            "`lsap-jax train-encoder`"
        )
    if detail == "near":
        detail = "w_avg" if G.encoder is None else "encoder"
    if G.encoder is not None and G.encoder.view.barred and config.fit != BARRED and (asking or detail == "encoder"):
        raise LsapError(
            f"fit={config.fit!r}: the encoder was trained with pictures of {G.encoder.view.height} x "
            f"{G.encoder.view.width} px, and the generator has black bars around them; set fit={BARRED!r}, which cuts "
            "pictures to 4 by 3 and adds the bars"
        )
    if detail == "random" and G.c_dim and G.labels is None:
        raise no_class(G.c_dim, "init.detail='random'")
    return Start(f=config.init.f, detail=detail, w_steps=config.init.w_steps)


def winograd_channels(config: ConfigDict, devices: Sequence[jax.Device]) -> int:
    """Least channels for Winograd's convolutions; -1 in the configuration is `paying_channels`."""
    return config.compute.winograd if config.compute.winograd >= 0 else paying_channels(devices)


def images_together(config: ConfigDict, devices: Sequence[jax.Device]) -> int:
    """Images that a device computes at once, 0 for all; -1 in the configuration is `images_at_once`."""
    return config.compute.together if config.compute.together >= 0 else images_at_once(devices)


def make_problem(config: ConfigDict, space: Space, together: int = 0) -> loop.Problem:
    """The problem of a configuration; for `together` see `images_together`.

    Raises:
        LsapError: an option that this space has no use for.
    """
    options = config.optimizer
    if config.retraction == "riemannian" and not space.on_sphere:
        raise LsapError(f"retraction='riemannian' is for z spaces; space {space.name} is flat, set it to 'project'")
    noise = config.latent_noise
    if noise.scale > 0 and not space.is_w:
        raise LsapError(f"latent_noise.scale={noise.scale}: is noise on w, space {space.name} has none; set it to 0")
    return loop.Problem(
        space=space,
        objective=objective_from_config(config, space),
        retraction=config.retraction,
        lr=options.lr,
        b1=options.b1,
        b2=options.b2,
        eps=options.eps,
        keep_best=config.keep == "best",
        schedule=options.schedule,
        lr_f=options.lr_f,
        latent_noise=loop.LatentNoise(scale=noise.scale, until=noise.until),
        together=together,
        remat=config.compute.remat,
        still=config.steps == 0,
        precision=config.compute.precision if config.steps else "highest",
    )
