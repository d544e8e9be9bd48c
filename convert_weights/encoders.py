"""Encoders of images to ws wherever they lie in a file, and what a generator brings along in such a file.

Their tools save `state_dict` with `encoder.*` and `decoder.*`, and `latent_avg` and `opts` beside it; GANInverter saves
`encoder` (with `latent_avg` inside) and `decoder`, StyleRes `e4e` and `generator_smooth`. Training snapshots of e4e
have the latent discriminator under `discriminator_state_dict`. Data-parallel training puts `module.` anywhere.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from convert_weights import hfgi, hyperstyle, idinvert, latent_discriminator, psp, styleres
from convert_weights.checkpoint import Checkpoint, Part, Unfit, listed, shown, together
from convert_weights.match import Matched, fill
from convert_weights.pickle_machine import Node
from convert_weights.places import inside, labelled, named, role
from convert_weights.structure import Structure
from convert_weights.tensors import Tensor, from_numpy
from convert_weights.w_avg import stored

KIND = "psp"
# Names of the tensors of heads, of the W encoder's only layer, of a trunk, and of the latent discriminator.
HEADS = re.compile(r"(|.*[/.])styles\.\d+\.(convs\.\d+|linear)\.(weight|bias)")
SINGLE = re.compile(r"(|.*[/.])linear\.(weight|bias)")
TRUNK = re.compile(r"(|.*[/.])body\.\d+\.(res_layer\.\d+|conv\d)\..*")
WIDE = re.compile(r"body\.(\d{1,3})\.res_layer\.3\.weight")  # as many rows as its unit makes features
CRITIC = re.compile(r"(|.*[/.])mlp\.\d+\.(weight|bias)")
SIZES = ("output_size", "stylegan_size", "resolution")  # of the generator's pictures, in `opts`


class Companion(NamedTuple):
    """A network that comes with a generator.

    Attributes:
        places: where it lies in the file.
        mean: name of the mean latent that it uses; "" if there is none.
        ignored: source tensor -> why it is not used.
        notes: on how it was read.
    """

    part: Part
    places: Sequence[str]
    mean: str = ""
    ignored: Mapping[str, str] = {}
    notes: Sequence[str] = ()


def encoder_places(names: Collection[str]) -> list[str]:
    """Where encoders lie: before the tensors of their heads, or of a linear layer beside a trunk."""
    trunks = {m[1] for name in names if (m := TRUNK.fullmatch(name))}
    heads = [m[1] for name in names if (m := HEADS.fullmatch(name))]
    single = [m[1] for name in names if (m := SINGLE.fullmatch(name)) and m[1] in trunks]
    return list(dict.fromkeys(heads + single))


def critic_places(names: Collection[str]) -> list[str]:
    """Where latent discriminators lie; other networks have layers called `mlp`, too."""
    found = dict.fromkeys(m[1] for name in names if (m := CRITIC.fullmatch(name)))
    return [place for place in found if "discriminator" in place.lower()]


def is_encoder(s: Structure) -> bool:
    """Whether the file holds an encoder."""
    return bool(encoder_places(s.everything))


def encoder_file(s: Structure) -> Checkpoint:
    """The encoder of a file without a generator.

    Raises:
        Unfit: its tensors do not fit, or it cannot be told how to compute it.
    """
    found, refused = companions(s, None)
    if KIND in refused:
        raise Unfit(refused[KIND])
    names = [name for name in s.entries if name not in [one.mean for one in found]]
    beside = dict.fromkeys(labelled(names, [place for one in found for place in one.places]), "not part of the encoder")
    return Checkpoint(
        format=f"{psp.project(found[0].part.config)} without a generator, in {s.placed}",
        parts=together(*(one.part for one in found)),
        ignored=beside | {name: reason for one in found for name, reason in one.ignored.items()},
        refused=refused,
        notes=tuple(note for one in found for note in one.notes),
    )


def companions(s: Structure, generator: Part | None) -> tuple[list[Companion], dict[str, str]]:
    """The encoder and the latent discriminator of a file, for its generator if it has one.

    Returns:
        those that fit, and kind -> why it does not for the others that are there.
    """
    found, refused = [], {}
    for kind, places, what, read in (
        (KIND, encoder_places(s.everything), "encoder", _encoder),
        (latent_discriminator.KIND, critic_places(s.everything), "latent discriminator", _critic),
        (styleres.KIND, styleres.places(s.everything), "networks of residuals", _styleres),
        (hfgi.KIND, hfgi.places(s.everything), "networks of HFGI", _hfgi),
        (hyperstyle.KIND, hyperstyle.places(s.everything), "hypernetwork", _hyperstyle),
        (idinvert.KIND, idinvert.places(s.everything), "encoder of IDInvert", _idinvert),
    ):
        try:
            if places:
                place = _chosen(places, what)
                found.append(read(s, place, f"the {what} under {shown(named(place))}", generator))
        except Unfit as error:
            refused[kind] = str(error)
    return found, refused


def _chosen(places: list[str], what: str) -> str:
    """The moving average by its name, else the only one."""
    best = [place for place in places if role(place) == "averaged"] or places
    if len(best) > 1:
        raise Unfit(f"has several networks of kind {what}, under {listed([named(p) for p in best])}; save one of them")
    return best[0]


def _critic(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    part = latent_discriminator.critic(inside(s.everything, place), what)
    if generator is not None and generator.config["w_dim"] != part.config["w_dim"]:
        width = generator.config["w_dim"]
        raise Unfit(f"{what} judges codes of {part.config['w_dim']} numbers, the generator beside it takes {width}")
    return Companion(part, [place])


def _hfgi(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    inner = [f"{place}{name}." for name in hfgi.NETWORKS]
    tensors = {at[len(place) :] + name: one for at in inner for name, one in inside(s.everything, at).items()}
    part, ignored = hfgi.networks(tensors, what)
    if generator is not None:
        hfgi.check_fits(part, generator, what)
    return Companion(part, inner, ignored={place + name: reason for name, reason in ignored.items()})


def _styleres(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    beside = encoder_places(s.everything)
    trunk = inside(s.everything, beside[0]) if len(beside) == 1 else {}
    units = {int(m[1]): one.shape[0] for name, one in trunk.items() if (m := WIDE.fullmatch(name))}
    part, ignored = styleres.networks(inside(s.everything, place), place, [units[k] for k in sorted(units)], what)
    if generator is not None:
        styleres.check_fits(part, generator, what)
    return Companion(part, [place], ignored={place + name: reason for name, reason in ignored.items()})


def _hyperstyle(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    opts = _opts(s, place)
    part, ignored = hyperstyle.network(inside(s.everything, place), generator, _passes(opts, what), what)
    part.config["input_height"] = _height(opts)
    return Companion(part, [place], ignored={place + name: reason for name, reason in ignored.items()})


def _height(opts: Mapping[str, Any]) -> int:
    """Px of height of the images that a network sees; 0 is that of squares."""
    trained_on = opts.get("dataset_type")  # of any type: it may be a list that is endless as text
    return psp.CARS if isinstance(trained_on, str) and "cars" in trained_on else 0


def _idinvert(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    part, ignored = idinvert.encoder(inside(s.everything, place))
    return Companion(part, [place], ignored={place + name: reason for name, reason in ignored.items()})


def _encoder(s: Structure, place: str, what: str, generator: Part | None) -> Companion:
    opts, (mean, values) = _opts(s, place), stored(s.everything, place)
    tensors = {name: tensor for name, tensor in inside(s.everything, place).items() if place + name != mean}
    matched, ignored, config = psp.encoder(tensors, what)
    config["progressive"] = psp.is_progressive(config, opts.get("encoder_type"), place, what)
    sees_result = config["in_channels"] in (2, 6)
    config["passes"] = _passes(opts, what) if sees_result else 1
    if "num_ws" not in config:
        config["num_ws"] = _rows(opts, values, generator, what)
    _check_fits(config, sees_result, generator, what)
    config["input_height"] = _height(opts)
    added = sees_result or bool(opts.get("start_from_latent_avg", True))
    matched["w_avg"], notes = _mean(config, (mean, values) if added else None, generator, what)
    arrays = fill(matched, psp.encoder_shapes(config) | {"w_avg": matched["w_avg"].shape}, what)
    own = {name if name == "w_avg" else f"encoder.{name}": array for name, array in arrays.items()}
    return Companion(
        part=Part(kind=KIND, config=config, arrays=own),
        places=[place],
        mean=mean * added,
        ignored={place + name: reason for name, reason in ignored.items()},
        notes=notes,
    )


def _opts(s: Structure, place: str) -> Mapping[str, Any]:
    """The options that the file was trained with, from the innermost dictionary around the place that has them."""
    node, found = s.mapping, s.mapping.get("opts")
    for word in place.split("/")[:-1]:
        inner = node.get(word)
        node = inner if isinstance(inner, dict) else {}
        found = node.get("opts", found)
    found = found.state if isinstance(found, Node) else found
    return found if isinstance(found, dict) else {}


def _passes(opts: Mapping[str, Any], what: str) -> int:
    """Number of ReStyle's or HyperStyle's passes."""
    passes = opts.get("n_iters_per_batch", psp.PASSES)
    if type(passes) is not int or not 1 <= passes <= 64:
        raise Unfit(f"{what}: opts.n_iters_per_batch is {shown(passes)}, it can be 1 to 64 passes")
    return passes


def _rows(opts: Mapping[str, Any], mean: Tensor | None, generator: Part | None, what: str) -> int:
    """Rows of ws for an encoder that makes one w: those of its generator, of the mean latent, or of the options."""
    if generator is not None:
        return 2 * len(generator.config["channels"])
    if mean is not None and len(mean.shape) == 2 and mean.shape[0] > 1:
        return mean.shape[0]
    for size in (opts.get(name) for name in SIZES):
        if type(size) is int and size >= 4:
            return 2 * size.bit_length() - 4
    raise Unfit(
        f"{what}: neither latent_avg nor opts.output_size tells the rows of its generator's ws; add one of them"
    )


def _check_fits(config: Mapping[str, Any], sees_result: bool, generator: Part | None, what: str) -> None:
    if config["num_ws"] not in psp.ROWS:
        raise Unfit(f"{what} makes {config['num_ws']} rows of ws, no generator takes as many")
    if generator is None:
        return
    g = generator.config
    own = (config["num_ws"], config["w_dim"], config["in_channels"] // (1 + sees_result))
    taken = (2 * len(g["channels"]), g["w_dim"], g["img_channels"])
    if own != taken:
        raise Unfit(
            f"{what} makes {own[0]} rows of {own[1]} numbers from pictures with {own[2]} channels, the generator "
            f"beside it ({g['img_resolution']} px) takes {taken[0]} rows of {taken[1]} and makes {taken[2]} channels"
        )


def _mean(
    config: Mapping[str, Any], found: tuple[str, Tensor | None] | None, generator: Part | None, what: str
) -> tuple[Matched, list[str]]:
    """What is added to the encoder's rows, [num_ws, w_dim], and notes.

    Args:
        found: the mean latent of the file with its name, [w_dim], or repeated or different for each row; None if the
            file says that none is added.
    """
    rows, width = shape = config["num_ws"], config["w_dim"]
    if found is None:
        zeros = from_numpy(np.zeros(shape, np.float32))
        return Matched("w_avg", zeros, shape, None), ["opts.start_from_latent_avg is false: no mean latent is added"]
    name, tensor = found
    if tensor is not None:
        if tensor.shape not in ((width,), (1, width), shape):
            raise Unfit(
                f"{what} makes {rows} rows of {width} numbers, but {name} has shape {list(tensor.shape)}; it can be "
                f"[{width}] or [{rows}, {width}]"
            )
        return Matched(name, tensor, shape, lambda a: np.broadcast_to(a, shape)), []
    if generator is None:
        raise Unfit(f"{what}: the file has no latent_avg, the mean latent that is added to its codes; add it")
    mean = from_numpy(np.tile(generator.arrays["mapping.w_avg"], (rows, 1)))
    return Matched("w_avg", mean, shape, None), [
        "latent_avg is not in the file: the encoder adds the generator's mean w"
    ]
