"""The command line: `lsap-jax COMMAND ...`.

One thin module per command, imported when it is chosen, so that `--help` and `--version` need nothing heavy. A
command's module has a docstring (its help), `flags()`, its absl flags, and `run(args)`, which returns the exit
status:

    0 all done    1 some images failed, or a mismatch was found    2 unusable arguments or input    130 after Ctrl-C
    143 after SIGTERM
"""

import difflib
import gc
import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from lsap_jax.cache import keep_compilations
from lsap_jax.compilation import compile_quickly
from lsap_jax.errors import LsapError

COMMANDS = {
    "demo": "the bundled generator and sample images, end to end, with a report",
    "invert": "images to latent codes",
    "encode": "images to latent codes by one pass of an encoder",
    "refine": "what the codes of a run cannot hold, by a method of result refinement",
    "edit": "the codes of a run along directions, to other images, or with their layers",
    "edit-quality": "how good the edits of runs are: success, preservation, realism, identity",
    "find-directions": "directions of a generator: GANSpace, SeFa, InterFaceGAN, random",
    "align": "photographs to the aligned faces that a generator of faces knows",
    "studio": "a page in the browser: a photograph to codes, and sliders that edit it while you look",
    "compare": "several latent spaces on the same images: the papers' tables",
    "generate": "samples of a generator, by seed",
    "convert": "an official checkpoint to one file of this package",
    "evaluate": "more metrics of a run: NSCD, MS-SSIM, LPIPS, KID, FID",
    "verify": "render the codes of a run again and compare with its pictures",
    "report": "write the report of a run, of edits or of their quality again",
    "export": "the codes of a run as .npy, .npz or .pt, or the whole run as one sharded store, and back",
    "models": "checkpoints that others publish, and their conversion; what is bundled and what is cached",
    "config": "the keys of a configuration: default, type, and what each of them is",
    "doctor": "versions, devices, cache, disk and known problems, to put into a report of a fault",
    "train-generator": "train a StyleGAN2 on a folder or archive of images",
    "train-basecode": "train the base-code encoder of a generator",
    "train-encoder": "train the latent encoder of a generator",
    "train-refiner": "train the networks of a method of refinement",
    "train-attributes": "train the classifier by which edits of a generator's images are judged",
}
OBJECTS = 10_000  # made and not freed between two of the garbage collector's small rounds
OK, INCOMPLETE, UNUSABLE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit status; errors become one line on stderr.

    Args:
        argv: arguments without the program's name; those of the process by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments and arguments[0] in ("--version", "-V"):
        from lsap_jax import __version__

        print(f"lsap-jax {__version__}")
        return OK
    if arguments and arguments[0] in ("--help", "-h", "help"):
        print(overview())
        return OK
    if not arguments:
        print(overview(), file=sys.stderr)
        return UNUSABLE
    name, *rest = arguments
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ";"
        return complain("lsap-jax", f"unknown command {name!r}{hint} there are {', '.join(COMMANDS)}")
    return guarded(f"lsap-jax {name}", name, rest)


def overview() -> str:
    """The text of `lsap-jax --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(
        [
            "GAN inversion in JAX: real images to latent codes of a pretrained StyleGAN2.",
            "",
            "usage: lsap-jax COMMAND ...",
            "",
            *lines,
            "",
            "`lsap-jax COMMAND --help` says more; `lsap-jax --version` prints the version.",
        ]
    )


def guarded(program: str, name: str, argv: list[str]) -> int:
    """Runs a command; an exception becomes one line and an exit status, or a traceback with `--debug`."""
    from lsap_jax.cli.addresses import with_files
    from lsap_jax.cli.arguments import parse

    debug = "--debug" in argv or "-debug" in argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: print(f"{program}: {one_line(message)}", file=sys.stderr)
            module = import_module(f"lsap_jax.cli.{name.replace('-', '_')}")
            args = parse(module, argv)
            if args is None:
                return OK
            keep_compilations()
            if "jax" not in sys.modules:  # else a device may have read the flags already
                compile_quickly()
            with rare_collections():
                return int(module.run(with_files(name, args)))
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; the interpreter must not try to flush again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except Exception as error:
        if debug:
            traceback.print_exc()
            return UNUSABLE
        return complain(program, explanation(error))


@contextmanager
def rare_collections() -> Iterator[None]:
    """Has Python look for unreachable cycles less often: its default is made for programs of fewer objects than jax's
    modules and traces, which stay, and looking at all of them takes a fifth of a second each time.
    """
    before = gc.get_threshold()
    gc.set_threshold(max(OBJECTS, before[0]), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def explanation(error: Exception) -> str:
    """The message for an exception."""
    if is_expected(error):
        return str(error)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: cannot be read or written ({error.strerror})"
    if "RESOURCE_EXHAUSTED" in str(error):
        return f"the device ran out of memory; use a smaller --batch_size ({one_line(error)[:200]})"
    return f"unexpected error ({type(error).__name__}: {one_line(error)[:300]}); run again with --debug to see where"


def is_expected(error: BaseException) -> bool:
    """Whether the exception's own message is written for users."""
    from convert_weights import ConversionError

    return isinstance(error, LsapError | ConversionError)


def complain(program: str, message: Any) -> int:
    """One line on stderr; returns the status of unusable input."""
    print(f"{program}: {one_line(message)}", file=sys.stderr)
    return UNUSABLE


def one_line(message: Any) -> str:
    """Text without line breaks and control characters, safe for a terminal."""
    text = " ".join(str(message).split())
    return "".join(character if character.isprintable() else "?" for character in text)
