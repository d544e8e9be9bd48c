"""The places of networks in a file: what stands before the names of a network's tensors.

All tensors of a file get one name each: the keys of the dictionaries around it with "/", then its name in the innermost
one, e.g. `g_ema/module.style.1.weight`. The place of that generator is `g_ema/module.`. So the wrappers of names
(`module.` of data-parallel training, `_orig_mod.` of torch.compile, an attribute of a Lightning module) and the keys of
dictionaries (`state_dict`, `model`) are one thing, whatever they are called.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Literal

from convert_weights.builders import Array
from convert_weights.checkpoint import ConversionError, listed, shown
from convert_weights.tensors import Tensor

Role = Literal["averaged", "plain", "critic", "other"]
ROLES: dict[str, Role] = {
    **dict.fromkeys(
        ("g_ema", "gs", "g_smooth", "g_running", "netg_ema", "generator_ema", "generator_smooth", "ema", "model_ema",
         "params_ema"), "averaged"),
    **dict.fromkeys(("g", "netg", "gen", "generator"), "plain"),
    **dict.fromkeys(("d", "netd", "disc", "discriminator"), "critic"),
}  # fmt: skip
MAX_DEPTH = 6
MAX_ITEMS = 100_000  # dictionaries that share others can hold far more than the file


def role(place: str) -> Role:
    """What the words of a place say about the network there; in doubt it is an averaged one, then a critic."""
    found = [ROLES[word] for word in re.split(r"[/.]", place.lower()) if word in ROLES]
    order: tuple[Role, ...] = ("averaged", "critic", "plain")
    return next((one for one in order if one in found), "other")


def flattened(root: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Every tensor in nested dictionaries, numpy arrays included, by its name with the keys before it."""
    return dict(_walk(root, "", 0, [MAX_ITEMS]))


def _walk(value: Mapping[Any, Any], path: str, depth: int, left: list[int]) -> Iterator[tuple[str, Tensor]]:
    for key, item in value.items():
        left[0] -= 1
        if left[0] < 0:
            raise ConversionError(f"holds dictionaries with more than {MAX_ITEMS} entries; refused as hostile")
        item = item.tensor if isinstance(item, Array) else item
        if isinstance(item, Tensor):
            yield f"{path}{key}", item
        elif isinstance(item, dict) and depth < MAX_DEPTH:
            yield from _walk(item, f"{path}{key}/", depth + 1, left)


def places(names: Collection[str], telling: Sequence[str]) -> list[str]:
    """The places of the networks of a kind, by tensors that each of them has, in the order of the file."""
    ends = {
        name[: -len(tail)]: None for name in names for tail in telling if name.endswith(tail) and _starts(name, tail)
    }
    return list(ends)


def _starts(name: str, tail: str) -> bool:
    """Whether the tail of a name begins at the start, or after a separator."""
    return len(name) == len(tail) or name[-len(tail) - 1] in "/."


def inside(tensors: Mapping[str, Tensor], place: str) -> dict[str, Tensor]:
    """The tensors of the network at a place, by their names in the network."""
    found = {name[len(place) :]: tensor for name, tensor in tensors.items() if name.startswith(place)}
    return {name: tensor for name, tensor in found.items() if "/" not in name}


def shared_prefix(names: Collection[str]) -> str | None:
    """The first word of the names with its dot, if several have it in common and all go on behind it."""
    heads = {name.partition(".")[0] for name in names}
    return f"{heads.pop()}." if len(heads) == 1 and len(names) > 1 and all("." in name for name in names) else None


def chosen(found: Sequence[str], names: Collection[str], telling: Sequence[str] = ()) -> str:
    """The place of the generator to use: the moving average by its name, else the only one.

    Args:
        found: places of generators; at least one.
        names: of all that is in the file. If the averaged generator is damaged, the plain one must not take its place.
        telling: tensors that a generator has, for the message.
    Raises:
        ConversionError: there are several, and the names do not say which is the average.
    """
    best = [place for place in found if role(place) == "averaged"] or list(found)
    if len(best) > 1:
        raise ConversionError(
            f"has generators under {listed([named(place) for place in best])}, and the names do not say which is the "
            "moving average, or one has an unknown name; save the one that you mean alone"
        )
    (place,) = best
    folders = dict.fromkeys(name.rpartition("/")[0] for name in names if name.count("/") == 1)
    averaged = next((folder for folder in folders if role(folder) == "averaged"), None)
    if role(place) != "averaged" and averaged is not None:
        raise ConversionError(
            f"has {shown(averaged)}, by its name an averaged generator, without {' or '.join(telling)}; the file is "
            f"damaged, or of another project: save the network that you mean alone"
        )
    return place


def scopes(place: str) -> list[str]:
    """What encloses a place, itself first and the file last: `a/b.c.` has `a/b.c.`, `a/b.`, `a/` and ``."""
    return [place[:end] for end in range(len(place), -1, -1) if not end or place[end - 1] in "/."]


def named(place: str) -> str:
    """A place for people: `g_ema` of `g_ema/`."""
    return place.rstrip("/.") or "its own names"


def labelled(names: Collection[str], taken: Sequence[str]) -> dict[str, None]:
    """Names that cover all tensors which are not at the places taken, in few words: "g_optim/*", "state_dict/a.*".

    A dictionary of the file is one entry, unless a place that is taken lies in it.
    """
    left = (name for name in names if not any(name.startswith(at) and "/" not in name[len(at) :] for at in taken))
    return dict.fromkeys(_label(name, taken) for name in left)


def _label(name: str, taken: Sequence[str]) -> str:
    *folders, leaf = name.split("/")
    for count in range(1, len(folders) + 1):
        path = "/".join(folders[:count]) + "/"
        if not any(place.startswith(path) for place in taken):
            return f"{path}*"
    head, dot, _ = leaf.partition(".")
    return "/".join((*folders, head)) + ".*" * bool(dot)
