"""Generators by the names of their tensors, wherever they lie in a file: rosinality, GenForce, NVlabs names.

Snapshots, bare state dicts, the decoders of pSp, e4e and HyperStyle, and what training scripts wrap around them. An
averaged generator that fits its architecture is used, and all beside it is listed as ignored; a plain generator is used
only where nothing beside it could be its average under a damaged name.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from convert_weights import encoders, genforce, genforce_stylegan1, idinvert, nvlabs, psp, rosinality, styleres
from convert_weights.checkpoint import Checkpoint, ConversionError, Part, Unfit, listed, shown, together
from convert_weights.encoders import companions
from convert_weights.nvlabs import Network
from convert_weights.nvlabs_file import NO_AVERAGE
from convert_weights.places import chosen, inside, labelled, named, places, role
from convert_weights.structure import Flat, Structure
from convert_weights.tensors import Tensor, as_float32, from_numpy
from convert_weights.w_avg import MEANS, stored

SILENT = (
    "a state dict does not state conv_clamp, learning-rate multipliers or the minibatch-stddev group: "
    "no clamp, 0.01 and 4 are assumed"
)
TRAINING = {
    "g_optim": "optimiser state",
    "d_optim": "optimiser state",
    "optimizer": "optimiser state",
    "discriminator_optimizer_state_dict": "optimiser state",
    "scheduler": "training state",
    "opts": "options of the training",
    "discriminator_state_dict": "discriminator of the encoder's training",
}
RESIDUALS = "StyleRes' networks of residuals, which are refused"
CLAMPED = "activations are clamped at 256, as StyleRes' code does; learning-rate multipliers are assumed"


class Layout(NamedTuple):
    """A row: how a project names the tensors of its generators.

    Attributes:
        title: start of the checkpoint's format.
        telling: tensors of which each of its generators has at least one.
        critic: a tensor that each of its discriminators has.
        mean: name of the mean w among the generator's tensors.
        usual: places where its own tools put a generator.
        generator, discriminator: the readers of the tensors, with the name of the network for messages.
        notes: on what its files do not state.
        aside: pattern of tensors in it that are of other networks, and what these are.
    """

    title: str
    telling: tuple[str, ...]
    critic: str
    mean: str
    usual: tuple[str, ...]
    generator: Callable[[Mapping[str, Tensor], str], Network]
    discriminator: Callable[[Mapping[str, Tensor], str], Part]
    notes: tuple[str, ...] = ()
    aside: tuple[str, str] = ("", "")


LAYOUTS = (
    Layout(
        "rosinality stylegan2-pytorch",
        ("input.input",),
        "final_linear.1.weight",
        "latent_avg",
        ("", "g_ema/", "g/", "state_dict/decoder.", "decoder/"),
        rosinality.generator,
        rosinality.discriminator,
    ),
    Layout(
        "GenForce StyleGAN2",
        ("synthesis.early_layer.const", "mapping.dense0.weight"),
        "input0.weight",
        "truncation.w_avg",
        ("", "generator_smooth/", "generator/"),
        genforce.generator,
        genforce.discriminator,
    ),
    Layout(  # GenForce's generators of both kinds have dense layers of one name; of several, the last counts
        "StyleGAN1 (GenForce, InterFaceGAN, IDInvert)",
        ("synthesis.layer0.const", "synthesis.layer0.first_layer", "synthesis.lod"),
        "input0.weight",
        "truncation.w_avg",
        ("", "generator_smooth/", "generator/"),
        genforce_stylegan1.generator,
        genforce_stylegan1.discriminator,
    ),
    Layout(
        "NVlabs tensors",
        ("synthesis.b4.const",),
        "b4.out.weight",
        "mapping.w_avg",
        ("", "G_ema/", "G/"),
        nvlabs.generator,
        nvlabs.discriminator,
        (SILENT,),
    ),
    Layout(  # its generators have the tensors that tell the layout above, too; of several, the last counts
        "StyleRes",
        tuple(f"synthesis.b{4 << k}.{styleres.PREFIX}gates.down1.weight" for k in range(1, 9)),
        "b4.out.weight",
        "mapping.w_avg",
        ("generator_smooth/", "models/generator_smooth/"),
        lambda tensors, what: nvlabs.generator(tensors, what, {"conv_clamp": 256.0}),
        nvlabs.discriminator,
        (CLAMPED,),
        (r"synthesis\.b\d+\.modify_feature_\w+\..*", RESIDUALS),
    ),
)
TOLD = tuple(layout for layout in LAYOUTS if not layout.aside[0])  # those that messages name
DECODER = "decoder."


def is_generator(s: Structure) -> bool:
    """Whether the file holds a generator, by the name of a tensor that each has."""
    return any(places(s.everything, layout.telling) for layout in LAYOUTS)


def is_discriminator(s: Structure) -> bool:
    """Whether the file holds a discriminator."""
    return any(places(s.everything, (layout.critic,)) for layout in LAYOUTS)


def generator_file(s: Structure) -> Checkpoint:
    """The generator of a file, with its discriminator if that fits, and the encoder that comes with it.

    Raises:
        ConversionError: it does not fit its architecture, or it is not clear which of several is meant.
    """
    tensors = s.everything
    found = {place: layout for layout in LAYOUTS for place in places(tensors, layout.telling)}
    place = chosen(list(found), tensors, [name for layout in TOLD for name in layout.telling])
    layout, kind = found[place], role(place)
    if kind == "plain":
        _check_alone(s, place)
    network, notes = _generator(layout, tensors, place)
    critic, at, more = _critic(layout, tensors, place)
    with_it, refused = companions(s, network)
    found_at = f"the generator was found under {shown(place)}, which is not a part of its names"
    where = [NO_AVERAGE] * (kind == "plain") + [found_at] * (place not in layout.usual)
    parts = together(network, critic, *(one.part for one in with_it))
    taken, means = [place, *at, *(at for one in with_it for at in one.places)], [one.mean for one in with_it]
    unread = () if any(one.part.kind == styleres.KIND for one in with_it) else tensors
    aside = dict.fromkeys((name for name in unread if _is_aside(layout, name, place)), layout.aside[1])
    return Checkpoint(
        format=_title(layout, place, parts, s),
        parts=parts,
        ignored=_ignored(s, place, taken, means) | aside | {k: v for one in with_it for k, v in one.ignored.items()},
        refused=refused,
        notes=(*where, *notes, *more, *(note for one in with_it for note in one.notes), *layout.notes),
    )


def _title(layout: Layout, place: str, parts: Mapping[str, Part], s: Structure) -> str:
    if encoders.KIND in parts:
        return f"{psp.project(parts[encoders.KIND].config)} with its generator, in {s.placed}"
    if idinvert.KIND in parts:
        return f"IDInvert with its generator, in {s.placed}"
    return f"pSp/e4e/HyperStyle decoder in {s.placed}" if place.endswith(DECODER) else f"{layout.title} in {s.placed}"


def _is_aside(layout: Layout, name: str, place: str) -> bool:
    """Whether a tensor of the file is in its generator, but of another network."""
    return name.startswith(place) and re.fullmatch(layout.aside[0], name.removeprefix(place)) is not None


def _generator(layout: Layout, tensors: Flat, place: str) -> Network:
    found, notes = inside(tensors, place), []
    flat = {name: tensor for name, tensor in found.items() if not _is_aside(layout, place + name, place)}
    name, mean = stored(tensors, place, layout.mean)
    if mean is not None:
        flat.pop(layout.mean, None)
        if (row := _row(mean)) is not None:
            flat[layout.mean] = row
        else:
            notes.append(f"{name} differs from layer to layer and is not used as the generator's mean w")
    part, more = layout.generator(flat, shown(named(place)))
    if mean is None and layout.mean not in flat:
        _check_no_mean(part, tensors, place)
    return part, notes + more


def _folders(place: str) -> list[str]:
    """The dictionaries around a place, innermost first, the file's own last: `a/b/c.` has `a/b/`, `a/`, ``."""
    parts = place.split("/")[:-1]
    return ["".join(f"{part}/" for part in parts[:count]) for count in range(len(parts), -1, -1)]


def _row(tensor: Tensor) -> Tensor | None:
    """A mean w as [w_dim]; pSp and e4e repeat it per layer. None where the rows differ."""
    values = as_float32(tensor)
    if values.ndim not in (1, 2) or not values.size:
        raise Unfit(f"its mean w has shape {list(values.shape)}, not [w_dim] or [rows, w_dim]; the file is damaged")
    rows = values.reshape(-1, values.shape[-1])
    if not np.array_equal(rows, np.broadcast_to(rows[:1], rows.shape), equal_nan=True):
        return None
    return from_numpy(np.array(rows[0]))


def _check_no_mean(part: Part, tensors: Flat, place: str) -> None:
    """Refuses a file without a mean w if something in it could be one under a damaged or unknown name."""
    width = part.config["w_dim"]
    beside = {
        name: tensors[name].shape
        for folder in _folders(place)
        for name in tensors
        if name.startswith(folder) and not set("/.") & set(name[len(folder) :]) and not name.startswith(place)
    }
    for name, shape in beside.items():
        if 0 < len(shape) <= 2 and shape[-1] == width:
            raise ConversionError(
                f"has tensors under the unknown name {shown(name)}; if this is the mean w, call it latent_avg, else "
                "delete it"
            )


def _critic(layout: Layout, tensors: Flat, place: str) -> tuple[Part | None, list[str], list[str]]:
    """The discriminator if there is one and it fits; its place if it is used; notes."""
    found = [at for at in places(tensors, (layout.critic,)) if at != place]
    best = found if len(found) == 1 else [at for at in found if role(at) == "critic"]
    if len(best) != 1:
        folders = dict.fromkeys(name.partition("/")[0] for name in tensors if "/" in name)
        others = [named(at) for at in found] or [folder for folder in folders if role(folder) == "critic"]
        return None, [], [f"{listed(others)} is not used: it is not the one discriminator of StyleGAN2"] * bool(others)
    try:
        return layout.discriminator(inside(tensors, best[0]), shown(named(best[0]))), best, []
    except Unfit as error:
        return None, [], [f"the discriminator under {shown(named(best[0]))} is not used: {error}"]


def _check_alone(s: Structure, place: str) -> None:
    """Refuses a plain generator if another entry of the file could be its average, or its mean w, under a damaged name.

    Single numbers cannot be.
    """
    known = {*TRAINING, *MEANS, "args", *(at.partition("/")[0] for at in (place, *idinvert.places(s.everything)))}
    for key, value in s.mapping.items():
        if key in known or role(str(key)) == "critic":
            continue
        if isinstance(value, dict):
            raise ConversionError(
                f"has no averaged generator, but the unknown entry {shown(key)!r}; the file is damaged or of another "
                "project: save the generator alone"
            )
        if isinstance(value, Tensor) and len(value.shape):
            raise ConversionError(
                f"has tensors under the unknown name {shown(key)}; the file is damaged or of another project: save "
                "the generator alone"
            )


def _ignored(s: Structure, place: str, taken: Collection[str], means: Collection[str]) -> dict[str, str]:
    """Everything in the file that is no part of the networks, in few labels: label -> reason."""
    means = [*means, *(folder + mean for folder in _folders(place) for mean in MEANS)]
    names = [name for name in s.entries if name not in means]
    found = {}
    for label in labelled(names, tuple(taken)):
        top = label.partition("/")[0]
        plain = role(label.rstrip("/*.")) == "plain" and role(place) == "averaged"
        average = f"{shown(named(place))}, its moving average, is used"
        found[label] = average if plain else TRAINING.get(top, "not part of the networks")
    return found
