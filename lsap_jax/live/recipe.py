"""What a request makes of a take: first a blend with another take, then sliders."""

from dataclasses import replace

from lsap_jax.editing.between import between, mix_styles
from lsap_jax.errors import LsapError
from lsap_jax.live import commands, fields
from lsap_jax.live.bench import Codes
from lsap_jax.live.fields import Fields
from lsap_jax.live.session import Session, Take
from lsap_jax.live.sliders import Slider
from lsap_jax.live.studio import Studio

MOST_SLIDERS = 64
MOST_STRENGTH = 1000.0


def sliders(studio: Studio, session: Session, own: Take, asked: Fields) -> tuple[list[Slider], list[str]]:
    """The sliders of a request whose directions the space of a take has, and the names of the others."""
    found, missing = [], []
    for one in fields.objects(asked, "sliders", MOST_SLIDERS):
        name, strength = fields.text(one, "name"), fields.number(one, "strength", -MOST_STRENGTH, MOST_STRENGTH)
        layers = fields.text(one, "layers", "") or None
        if (known := session.direction(own.space, name) or studio.direction(own.space, name)) is None:
            missing.append(name)
        else:
            found.append(Slider(direction=known, strength=strength, layers=layers))
    return found, missing


def blended(studio: Studio, session: Session, own: Take, asked: Fields) -> Codes:
    """Codes of a take on the way to another one, or with layers of it; its own without a blend in the request.

    Raises:
        LsapError: the takes are of different spaces, or refined.
    """
    blend = asked.get("blend")
    if blend is None:
        return own.codes
    if not isinstance(blend, dict):
        raise LsapError("blend: an object is needed")
    other = session.take(fields.text(blend, "with"))
    if other.space != own.space:
        raise LsapError(f"{own.label} and {other.label} are of different spaces; only codes of one space blend")
    if own.refinement is not None or other.refinement is not None:
        raise LsapError("refined images do not blend: what refines one does not fit the codes of another")
    if layers := fields.text(blend, "layers", ""):
        return mix_styles(studio.G, own.space, own.codes, other.codes, layers)
    t = fields.number(blend, "t", 0, 1)
    return between(studio.G, own.space, own.codes, other.codes, t) if t else own.codes


def unedited(studio: Studio, session: Session, own: Take, asked: Fields) -> Take:
    """What the sliders of a request move: the take, or its blend as a take of its own."""
    codes = blended(studio, session, own, asked)
    return own if codes is own.codes else with_codes(studio, own, codes, "blend")


def with_codes(studio: Studio, own: Take, codes: Codes, name: str) -> Take:
    """A take with other codes, which come from no command: those of some spaces begin from the archive's file."""
    picture = studio.bench.picture(own.space, codes, own.refinement)
    made = replace(own, id=f"{own.id}-{name}", label=f"{own.label}, {name}", codes=codes, picture=picture)
    made = replace(made, run="", commands=(), metrics={})
    if own.refinement is None and own.space.name in commands.GIVEN:
        made = replace(made, run=commands.RUN, commands=(commands.from_codes(made, studio.name),))
    return made
