"""All that a client can ask for, as a table: name -> operation. HTTP and notebooks both go through it."""

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from lsap_jax.editing.direction import family
from lsap_jax.editing.layers import ranges_of
from lsap_jax.editing.listing import layers_text
from lsap_jax.errors import LsapError
from lsap_jax.live import commands, fields, recipe
from lsap_jax.live.archive import archive
from lsap_jax.live.bench import data_url
from lsap_jax.live.embedding import MOST_STEPS, Say, embed, fit
from lsap_jax.live.fields import Fields
from lsap_jax.live.gallery import SHOWN
from lsap_jax.live.session import Photo, Session, Take
from lsap_jax.live.sliders import Slider, moved, numbered
from lsap_jax.live.studio import Studio
from lsap_jax.live.upload import MOST_BYTES, plain_name, received
from lsap_jax.spaces import parse_space

SAMPLED = "w+"
Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """A row of the table.

    Attributes:
        do: from studio, session, request and a listener to the answer, which JSON can hold.
        long: whether it takes turns with other long ones, or is done at once.
        most: bytes of a request.
    """

    do: Callable[[Studio, Session, Fields, Say], Answer]
    long: bool = False
    most: int = 2**16


def begin(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """What there is, and what the session has: all that a page needs, new or loaded again."""
    for take in studio.opened if not session.takes else ():
        session.add_take(take)
    G, gallery = studio.G, studio.gallery
    return {
        "client": session.client,
        "generator": {"name": studio.name, "resolution": G.img_resolution, "rows": G.num_ws},
        "ways": [{"name": one.name, "label": one.label, "steps": one.steps} for one in studio.ways],
        "refiners": list(studio.refiners),
        "align": gallery is not None and gallery.aligned,
        "run": None if gallery is None else {"name": gallery.name, "count": len(gallery.manifest)},
        "directions": {
            name: [{"name": one.name, "layers": layers_text(one)} for one in known.values()]
            for name, known in studio.directions.items()
        },
        # Copies: a long operation of this session may add to them meanwhile.
        "photos": [_photo(one) for one in list(session.photos.values())],
        "takes": [_take(studio, one) for one in list(session.takes.values())],
    }


def photo(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """Keeps a photograph, cut to its face where that is asked for."""
    name, align = plain_name(fields.text(asked, "name", most=1000)), fields.switch(asked, "align")
    try:
        data = base64.b64decode(fields.text(asked, "data", most=MOST_BYTES * 4 // 3 + 4), validate=True)
    except binascii.Error:
        raise LsapError("data: is not base64") from None
    G = studio.G
    item = received(data, name, G.img_resolution, G.img_channels, fit(G), studio.align if align else None)
    own = Photo(
        key=session.next_key("p"), id=item.id, file=name, image=item.image, aligned=align, notes=tuple(item.notes)
    )
    session.add_photo(own)
    return {"photo": _photo(own)}


def take(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """Codes of a photograph, by a way and a method of refinement."""
    session.check_room()
    own, way = session.photo(fields.text(asked, "photo")), studio.way(fields.text(asked, "way"))
    steps = fields.whole(asked, "steps", 1, MOST_STEPS, way.steps) if way.steps else 0
    refining = fields.choice(asked, "refine", ["", *studio.refiners], "")
    made = embed(studio.bench, studio.name, own, session.next_key("t"), way, steps, refining, say)
    return _kept(studio, session, made)


def sample(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """The sample of a seed, in W+, as `lsap-jax generate` draws it."""
    session.check_room()
    seed, psi = fields.whole(asked, "seed", 0, 2**32 - 1), fields.number(asked, "psi", 0, 2, 1.0)
    z = np.random.RandomState(seed).randn(1, studio.G.z_dim).astype(np.float32)
    space = parse_space(SAMPLED)
    codes = {space.key: np.asarray(studio.G.mapping(jnp.asarray(z), truncation_psi=psi))}
    studio.bench.warm(space, codes)
    flags = ["--seeds", str(seed), "--truncation_psi", f"{psi:g}", "--out", "samples"]
    made = Take(
        key=session.next_key("t"),
        id=f"seed{seed:04d}",
        label=f"seed {seed}" + ("" if psi == 1 else f", ψ {psi:g}"),
        space=space,
        codes=codes,
        picture=studio.bench.picture(space, codes),
    )
    generating = ("lsap-jax", "generate", "--generator", studio.name, *flags)
    made = replace(made, run=commands.RUN, commands=(generating, commands.from_codes(made, studio.name)))
    return _kept(studio, session, made)


def finished(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """Ids of the open run that contain a text."""
    gallery = _gallery(studio)
    ids = gallery.matching(fields.text(asked, "query", ""))
    first = fields.whole(asked, "first", 0, max(len(ids), 1), 0)
    return {"ids": ids[first : first + SHOWN], "count": len(ids)}


def finished_take(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """A finished image of the open run as a take."""
    session.check_room()
    made = _gallery(studio).take(studio.bench, session.next_key("t"), fields.text(asked, "id", most=4000))
    return _kept(studio, session, made)


def picture(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """Pictures of takes as sliders and a blend make them."""
    pictures = []
    for one in fields.objects(asked, "takes", 8):
        own = session.take(fields.text(one, "take"))
        sliders, missing = recipe.sliders(studio, session, own, asked)
        codes = moved(studio.G, own.space, recipe.blended(studio, session, own, asked), sliders)
        image = own.picture if codes is own.codes else studio.bench.picture(own.space, codes, own.refinement)
        pictures.append({"take": own.key, "picture": data_url(image), "missing": missing})
    return {"pictures": pictures}


def keep(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """What is shown, as a new take."""
    session.check_room()
    base, sliders = _recipe(studio, session, asked)
    made = recipe.with_codes(studio, base, moved(studio.G, base.space, base.codes, sliders), "kept")
    return _kept(studio, session, replace(made, key=session.next_key("t")))


def direction(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """A direction of GANSpace, SeFa or chance."""
    own, text = session.take(fields.text(asked, "take")), fields.text(asked, "direction")
    say({"phase": f"looking for {text}"})

    def report(done: int, count: int) -> None:
        say({"phase": "drawing samples", "step": done, "steps": count})

    found = numbered(studio.G, own.space, text, report)
    session.add_direction(found)
    return {"family": family(own.space), "direction": {"name": found.name, "layers": layers_text(found)}}


def save(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """An archive of pictures, codes and command lines."""
    base, sliders = _recipe(studio, session, asked)
    codes = moved(studio.G, base.space, base.codes, sliders)
    image = studio.bench.picture(base.space, codes, base.refinement)
    data = archive(studio.G, base, sliders, codes, image, commands.written(studio.G, base, sliders))
    return {"name": f"{base.id}.zip", "data": base64.b64encode(data).decode("ascii")}


def lines(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """The command lines that do the same in batch."""
    return {"text": commands.written(studio.G, *_recipe(studio, session, asked))}


def remove(studio: Studio, session: Session, asked: Fields, say: Say) -> Answer:
    """Forgets a take or a photograph."""
    key = fields.text(asked, "key")
    session.takes.pop(key, None)
    session.photos.pop(key, None)
    return {}


OPERATIONS: Mapping[str, Operation] = {
    "begin": Operation(do=begin),
    "photo": Operation(do=photo, long=True, most=MOST_BYTES * 4 // 3 + 2**12),
    "take": Operation(do=take, long=True),
    "sample": Operation(do=sample, long=True),
    "finished": Operation(do=finished),
    "finished_take": Operation(do=finished_take, long=True),
    "direction": Operation(do=direction, long=True),
    "picture": Operation(do=picture),
    "keep": Operation(do=keep),
    "save": Operation(do=save),
    "lines": Operation(do=lines),
    "remove": Operation(do=remove),
}


def _recipe(studio: Studio, session: Session, asked: Fields) -> tuple[Take, list[Slider]]:
    """What the sliders of a request move, and those that its space has."""
    own = session.take(fields.text(asked, "take"))
    return recipe.unedited(studio, session, own, asked), recipe.sliders(studio, session, own, asked)[0]


def _gallery(studio: Studio) -> Any:
    if studio.gallery is None:
        raise LsapError("no run is open; start the studio with one")
    return studio.gallery


def _kept(studio: Studio, session: Session, made: Take) -> Answer:
    session.add_take(made)
    return {"take": _take(studio, made)}


def _photo(one: Photo) -> Answer:
    return {"key": one.key, "name": one.file, "picture": one.url, "notes": list(one.notes)}


def _take(studio: Studio, one: Take) -> Answer:
    return {
        "key": one.key,
        "id": one.id,
        "label": one.label,
        "space": one.space.name,
        "family": family(one.space),
        "photo": one.photo,
        "refined": one.refinement is not None,
        "ranges": ranges_of(studio.G, one.space, one.space.f_resolution(one.codes)),
        "metrics": dict(one.metrics),
        "picture": one.url,
        "target": one.target_url,
    }
