"""https:// addresses in place of files on the command line."""

import sys
from dataclasses import replace

from lsap_jax.cli.arguments import ADDRESSES, Arguments
from lsap_jax.storage.web import is_address

POSITIONAL = {"convert": 1}  # command -> so many of its first arguments are files that may be addresses


def with_files(command: str, args: Arguments) -> Arguments:
    """The arguments with the path of a fetched file for every address that a flag or argument for weights has.

    Raises:
        LsapError: a file cannot be fetched.
    """
    for name in ADDRESSES:
        given = args.flags[name].value if name in args.flags else None
        if given is not None and is_address(given):
            args.flags[name].value = _fetched(given)
    count = POSITIONAL.get(command, 0)
    files = (_fetched(text) if is_address(text) else text for text in args.positional[:count])
    return replace(args, positional=(*files, *args.positional[count:]))


def _fetched(address: str) -> str:
    """The path of the file; tells on stderr how far it is, and where it is kept."""
    from lsap_jax.cli.progress import transfer
    from lsap_jax.storage.fetch import fetch
    from lsap_jax.storage.web import parsed

    name = parsed(address).name
    path = fetch(address, transfer(f"fetching {name}"))
    print(f"{name}: {path}", file=sys.stderr)
    return str(path)
