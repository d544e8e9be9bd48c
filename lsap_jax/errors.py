"""The one exception that users meet."""


class LsapError(Exception):
    """Unusable input, arguments or files: one line that names the file, the value and the remedy.

    The command line prints it and exits with status 2; anything else that escapes is a defect of this package.
    """
