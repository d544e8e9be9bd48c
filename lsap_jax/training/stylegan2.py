"""One training step of StyleGAN2 (Karras et al., CVPR 2020).

Non-saturating loss, lazy R1 and path length regularisation, style mixing, and a moving average of the weights. Beside
the discriminator there may be local ones, each of one window of the images: what is small and faint there, mouths of
faces for one, is nearly nothing to a network that sees the whole (local discriminators: Iizuka et al., SIGGRAPH 2017).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lsap_jax.models.discriminator import Discriminator
from lsap_jax.models.generator import Generator
from lsap_jax.networks.stylegan2.discriminator import DiscriminatorConfig
from lsap_jax.training.augment import adapt, augment

Params = Any
BUFFERS = ("w_avg", "noise_const")  # live among the params, never trained by gradient
WHOLE = "whole"  # name of the discriminator of whole images, beside those of windows


@dataclass(frozen=True, kw_only=True)
class Window:
    """Where a local discriminator looks, in pixels of the image, and how wide it is.

    Attributes:
        size: side of the window, a power of two from 8.
        channels: of the discriminator, from 4 px upward.
        r1_gamma: weight of its R1. What is faint changes few grey levels, and R1 bounds what a grey level can count, so
            it is lower than that of whole images.
    """

    name: str
    top: int
    left: int
    size: int
    channels: tuple[int, ...]
    r1_gamma: float

    def __call__(self, images: jax.Array) -> jax.Array:
        """Images [B, R, R, C] to [B, size, size, C]."""
        return images[:, self.top : self.top + self.size, self.left : self.left + self.size]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Hyper-parameters of a step; images count, never steps, so that they mean the same at any batch size."""

    batch_size: int = 32
    lr: float = 0.0025
    r1_gamma: float = 1.0
    r1_interval: int = 16
    path_length_weight: float = 0.0
    path_length_interval: int = 4
    ema_halflife: float = 10_000.0
    style_mixing: float = 0.5
    augment_p: float = 0.0
    augment_target: float | None = None
    augment_images_to_one: float = 500_000.0
    decay_start: int = 0
    decay_images: int = 0
    precision: str = "default"  # of convolutions, see networks/arithmetic.py: rounding is far below a batch's noise
    windows: tuple[Window, ...] = ()


class TrainState(struct.PyTreeNode, kw_only=True):
    """Everything a run needs to go on: a pytree, saved whole."""

    generator: Params
    discriminators: Mapping[str, Params]  # WHOLE, and the local ones by the names of their windows
    ema: Params
    g_optimizer: optax.OptState
    d_optimizer: optax.OptState
    images_seen: jax.Array
    augment_p: jax.Array
    path_length_mean: jax.Array


def trainable(params: Params) -> Params:
    """The same tree with "train" or "buffer" for every leaf."""
    return jax.tree_util.tree_map_with_path(lambda path, _: "buffer" if path[-1].key in BUFFERS else "train", params)


def learning_rate(config: TrainConfig, images_seen: int) -> float:
    """`lr`, and from `decay_start` on half a cosine down to 2 % of it within `decay_images`.

    An argument of the step, not part of it: a resumed run can be given a decay that it was not begun with.
    """
    if not config.decay_images:
        return config.lr
    place = min(max((images_seen - config.decay_start) / config.decay_images, 0.0), 1.0)
    return config.lr * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * place)))


def optimizer(interval: int) -> optax.GradientTransformation:
    """Adam(β 0, 0.99) at rate 1, corrected for lazy regularisation every `interval` steps (§3.1 and appendix B)."""
    ratio = interval / (interval + 1) if interval else 1.0
    adam = optax.adam(ratio, b1=0.0, b2=0.99**ratio, eps=1e-8)
    return optax.multi_transform({"train": adam, "buffer": optax.set_to_zero()}, trainable)


def optimizers(config: TrainConfig) -> tuple[optax.GradientTransformation, optax.GradientTransformation]:
    """(generator's, discriminator's)."""
    g_interval = config.path_length_interval if config.path_length_weight else 0
    return optimizer(g_interval), optimizer(config.r1_interval if config.r1_gamma else 0)


def initial_state(G: Generator, config: TrainConfig, local: Mapping[str, Params] | None = None) -> TrainState:
    """State that starts from the weights of G and its discriminator, and of the local ones by name."""
    assert G.discriminator is not None
    g_tx, d_tx = optimizers(config)
    own = partial(jax.tree.map, lambda a: jnp.array(a, copy=True))
    discriminators = own({WHOLE: G.discriminator.params, **(local or {})})
    return TrainState(
        generator=own(G.params),
        discriminators=discriminators,
        ema=own(G.params),
        g_optimizer=g_tx.init(G.params),
        d_optimizer=d_tx.init(discriminators),
        images_seen=jnp.zeros((), jnp.int32),
        augment_p=jnp.float32(config.augment_p),
        path_length_mean=jnp.zeros(()),
    )


def sample_ws(G: Generator, rng: jax.Array, batch: int, mixing: float) -> tuple[jax.Array, jax.Array]:
    """(ws [B, num_ws, w_dim], w [2B, w_dim]) of random z.

    With probability `mixing` an image takes the styles from a random layer upward from a second z.
    """
    z_rng, chance_rng, cut_rng = jax.random.split(rng, 3)
    w = G.map_w(jax.random.normal(z_rng, (2 * batch, G.z_dim)))
    cut = jax.random.randint(cut_rng, (batch, 1, 1), 1, G.num_ws)
    cut = jnp.where(jax.random.bernoulli(chance_rng, mixing, (batch, 1, 1)), cut, G.num_ws)
    first, second = w[:batch, None], w[batch:, None]
    return jnp.where(jnp.arange(G.num_ws)[None, :, None] < cut, first, second), w


def train_step(
    G: Generator,
    config: TrainConfig,
    state: TrainState,
    real: jax.Array,
    rng: jax.Array,
    rate: jax.Array | float,
    *,
    r1: bool,
    path_length: bool,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of both networks on the same generated images, each from the weights before the step.

    Args:
        G: gives the configurations; its params are ignored.
        real: uint8 [B, R, R, C].
        rate: learning rate of both networks.
        r1, path_length: whether this step's turn of the lazy regularisers has come (static).
    """
    assert G.discriminator is not None
    g_tx, d_tx = optimizers(config)
    ws_rng, noise_rng, fake_rng, real_rng, pl_rng = jax.random.split(rng, 5)
    real = real.astype(jnp.float32) / 127.5 - 1

    def moved(params: Params, updates: Params) -> Params:
        return jax.tree.map(lambda p, u: p + rate * u, params, updates)

    def generate(params: Params) -> tuple[jax.Array, jax.Array]:
        g = G.replace(params=params)
        ws, w = sample_ws(g, ws_rng, real.shape[0], config.style_mixing)
        return g.synthesis(ws, "random", noise_rng), w

    networks = critics(G, config)

    def logits_of(params: Params, images: jax.Array) -> dict[str, jax.Array]:
        return {name: critic(params[name], images) for name, critic in networks.items()}

    def real_loss(params: Params) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        images = augment(real, real_rng, state.augment_p)
        logits, penalty = logits_of(params, images), jnp.zeros(())
        if r1:
            gammas = {WHOLE: config.r1_gamma, **{window.name: window.r1_gamma for window in config.windows}}
            for name, gamma in gammas.items():
                penalty += r1_penalty(partial(networks[name], params[name]), images, gamma) * config.r1_interval
        return total({name: -logit for name, logit in logits.items()}) + penalty, (logits, penalty)

    # One pass through each network serves both losses: only what comes back differs.
    fake, generator_back, w = jax.vjp(generate, state.generator, has_aux=True)
    fake_logits, critic_back = jax.vjp(
        lambda params, images: logits_of(params, augment(images, fake_rng, state.augment_p)), state.discriminators, fake
    )
    g_value, g_logits = jax.value_and_grad(lambda logits: total({n: -a for n, a in logits.items()}))(fake_logits)
    fake_value, d_logits = jax.value_and_grad(total)(fake_logits)
    (g_grads,) = generator_back(critic_back(g_logits)[1])
    (real_value, (real_logits, penalty)), real_grads = jax.value_and_grad(real_loss, has_aux=True)(state.discriminators)
    d_grads = jax.tree.map(jnp.add, real_grads, critic_back(d_logits)[0])
    path_mean = state.path_length_mean
    if path_length:

        def path_loss(params: Params) -> tuple[jax.Array, jax.Array]:
            g = G.replace(params=params)
            return path_length_penalty(g, config, pl_rng, max(real.shape[0] // 2, 1), state.path_length_mean)

        (path_value, path_mean), path_grads = jax.value_and_grad(path_loss, has_aux=True)(state.generator)
        g_value, g_grads = g_value + path_value, jax.tree.map(jnp.add, g_grads, path_grads)

    updates, g_optimizer = g_tx.update(g_grads, state.g_optimizer, state.generator)
    generator = track_w_avg(moved(state.generator, updates), w, G.config.w_avg_beta)
    updates, d_optimizer = d_tx.update(d_grads, state.d_optimizer, state.discriminators)
    beta = 0.5 ** (config.batch_size / config.ema_halflife)
    p = state.augment_p
    if config.augment_target is not None:
        p = adapt(p, real_logits[WHOLE], target=config.augment_target, images_to_one=config.augment_images_to_one)
    new = TrainState(
        generator=generator,
        discriminators=moved(state.discriminators, updates),
        # In this form the average of what does not change is exactly that, noise_const for one.
        ema=jax.tree.map(lambda e, g: g + (e - g) * beta, state.ema, generator),
        g_optimizer=g_optimizer,
        d_optimizer=d_optimizer,
        images_seen=state.images_seen + real.shape[0],
        augment_p=p,
        path_length_mean=path_mean,
    )
    logs = {
        "g_loss": g_value, "d_loss": fake_value + real_value, "real": real_logits[WHOLE].mean(),
        "fake": fake_logits[WHOLE].mean(),
        "r1": penalty, "augment_p": p,
    }  # fmt: skip
    return new, logs


def critics(G: Generator, config: TrainConfig) -> dict[str, Callable[[Params, jax.Array], jax.Array]]:
    """Name to (params, images [B, R, R, C]) -> logits [B], of the discriminator of G and of those of the windows."""
    assert G.discriminator is not None
    whole = G.discriminator

    def local(window: Window) -> Callable[[Params, jax.Array], jax.Array]:
        D = Discriminator(config=local_config(whole.config, window), params={})
        return lambda params, images: D.replace(params=params)(window(images))  # type: ignore[attr-defined]

    found = {window.name: local(window) for window in config.windows}
    return {WHOLE: lambda params, images: whole.replace(params=params)(images), **found}


def local_config(config: DiscriminatorConfig, window: Window) -> DiscriminatorConfig:
    """Shape of the discriminator of a window, beside that of whole images."""
    return replace(config, img_resolution=window.size, channels=window.channels)


def total(logits: Mapping[str, jax.Array]) -> jax.Array:
    """Sum of the discriminators' mean softplus of their logits [B]."""
    return sum((jax.nn.softplus(logit).mean() for logit in logits.values()), jnp.zeros(()))


def r1_penalty(D: Callable[[jax.Array], jax.Array], real: jax.Array, gamma: float) -> jax.Array:
    """γ/2 · E|∇D(x)|² (Mescheder et al., ICML 2018)."""
    grads = jax.grad(lambda x: D(x).sum())(real)
    return jnp.square(grads).sum(axis=(1, 2, 3)).mean() * (gamma / 2)


def path_length_penalty(
    G: Generator, config: TrainConfig, rng: jax.Array, batch: int, mean: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """E(|Jᵀy| - a)² with the running mean a (§3.2); returns the weighted penalty and the new mean."""
    ws_rng, noise_rng, y_rng = jax.random.split(rng, 3)
    ws, _ = sample_ws(G, ws_rng, batch, config.style_mixing)
    shape = (batch, G.img_resolution, G.img_resolution, G.img_channels)
    y = jax.random.normal(y_rng, shape) / G.img_resolution
    grads = jax.grad(lambda ws: jnp.sum(G.synthesis(ws, "random", noise_rng) * y))(ws)
    lengths = jnp.sqrt(jnp.square(grads).sum(axis=2).mean(axis=1))
    mean = mean + 0.01 * (jax.lax.stop_gradient(lengths).mean() - mean)
    penalty = jnp.square(lengths - mean).mean() * config.path_length_weight * config.path_length_interval
    return penalty, mean


def track_w_avg(params: Params, w: jax.Array, beta: float) -> Params:
    """params with the running mean of w moved towards this batch's."""
    mapping = dict(params["mapping"])
    mapping["w_avg"] = beta * mapping["w_avg"] + (1 - beta) * jax.lax.stop_gradient(w).mean(axis=0)
    return {**params, "mapping": mapping}
