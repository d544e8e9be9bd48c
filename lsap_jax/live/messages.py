"""What clients are told of errors: one line, and no path of the machine."""

import re
import sys
import traceback

from lsap_jax.errors import LsapError

# Folders up to a last part; with blanks in their names only where the line begins with the path, as messages do.
_AT_START = re.compile(r"^(?:[A-Za-z]:)?[\\/](?:[^\\/:\n]+[\\/])*(?=[^\\/:\n]*:)")
_ANYWHERE = re.compile(r"(?<![\w.\\/])(?:~|[A-Za-z]:)?[\\/](?:[^\\/\s'\"]+[\\/])*")
UNEXPECTED = "something went wrong; the terminal of the studio says what"


def without_paths(message: str) -> str:
    """A message in which files have their own names alone."""
    line = " ".join(message.split())
    return _ANYWHERE.sub("", _AT_START.sub("", line))


def explained(error: BaseException) -> str:
    """What a client is told of an error; what is not written for users goes to the terminal."""
    from convert_weights import ConversionError

    if isinstance(error, LsapError | ConversionError):
        return without_paths(str(error))
    if "RESOURCE_EXHAUSTED" in str(error):
        return "the device ran out of memory; remove takes, or wait until others are done"
    traceback.print_exception(error, file=sys.stderr)
    return UNEXPECTED
