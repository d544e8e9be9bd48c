"""A page in the browser: drop a photograph, turn it into codes, and edit it live with sliders.

usage: lsap-jax studio [RUN] [--generator G] [--host H] [--port P]

For example: lsap-jax studio --generator toonhead64

Then open the address that it prints. RUN is a run folder whose images can be edited; its generator is the one named
there. Photographs stay in memory and are forgotten when the studio ends; "Save" in the page gives an archive of
pictures and codes, with the commands that do the same in batch. --direction offers more directions, from files,
GANSpace or SeFa, besides those that are bundled with the generator and those that find-directions has found.

The page is served to this machine only. With --host, others can open it, too, at the printed address: it ends with a
token, without which nothing is answered. Everything is then sent over the network unencrypted.

Needs the extra `studio`: pip install '.[studio]' in lsap_jax's checkout.

Exit status: 0 after Ctrl-C, 2 unusable arguments.
"""

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from absl.flags import FlagValues

from lsap_jax.cli import OK
from lsap_jax.cli.arguments import Arguments, new_flags, number, text, texts
from lsap_jax.cli.runs import weights_flag
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from lsap_jax.live.studio import Studio

DEFAULT = "toonhead64"


def flags() -> FlagValues:
    values = new_flags()
    text(
        values,
        "generator",
        "a bundled name, a converted file or an official checkpoint (default: RUN's, else toonhead64)",
    )
    texts(values, "direction", "FILE, FILE:NAME, ganspace:K-L or sefa:K-L: more directions to offer")
    text(values, "host", "address to listen on; beyond loopback, the page needs the printed token", "127.0.0.1")
    number(values, "port", "port to listen on; 0 takes any free one", 8008, lower=0)
    weights_flag(values)
    return values


def run(args: Arguments) -> int:
    from lsap_jax.live.server import check_installed, serve

    args.no_config()
    if len(args.positional) > 1:
        raise LsapError(f"expected one RUN or none, got {' '.join(args.positional)}; see --help")
    check_installed()
    studio = opened(args)
    with suppress(KeyboardInterrupt):
        serve(studio, args.flags.host, args.flags.port, _tell)
    return OK


def opened(args: Arguments) -> "Studio":
    """The studio of the command line's generator or run."""
    from lsap_jax.cli.runs import generator_of
    from lsap_jax.live.gallery import gallery
    from lsap_jax.live.sliders import offered
    from lsap_jax.live.studio import make_studio
    from lsap_jax.models.generator_file import load_generator
    from lsap_jax.storage.results import read_run

    values, shown = args.flags, None
    if args.positional:
        folder = Path(args.positional[0])
        record = read_run(folder)
        G = generator_of(folder, record, values.generator, values.weights)
        name = values.generator or record["generator"]["name"]
        shown = gallery(folder, record, G)
    else:
        name = values.generator or DEFAULT
        G = load_generator(name)
    return make_studio(G, name, directions=offered(G, values.direction), gallery=shown)


def _tell(address: str) -> None:
    print(f"studio: {address}  (Ctrl-C ends it)", flush=True)
    print("photographs are kept in memory alone; save what you want to keep", file=sys.stderr)
