"""Arguments of a command: its own absl flags, `--config.key=value` pairs, and positional ones, in any order."""

import ast
import difflib
import inspect
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from absl import flags as absl_flags
from absl.flags import FlagValues

from lsap_jax.cli.examples import EXAMPLES
from lsap_jax.errors import LsapError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

ADDRESSES = ("generator", "encoder", "weights", "lin", "add_basecode")  # flags that take https:// addresses of files
_TRUTH = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of a command.

    Attributes:
        positional: everything that is not a flag.
        flags: values by name.
        config: dotted configuration key -> text, of `--config.key=value`.
    """

    positional: tuple[str, ...]
    flags: FlagValues
    config: Mapping[str, str]

    def required(self, name: str) -> Any:
        """The value of a flag that has no default.

        Raises:
            LsapError: the flag was not given.
        """
        if self.flags[name].value is None:
            raise LsapError(f"--{name} is missing: {self.flags[name].help}")
        return self.flags[name].value

    def only(self, *names: str) -> tuple[str, ...]:
        """The positional arguments of a command that takes exactly these (names for the message).

        Raises:
            LsapError: more or fewer arguments were given.
        """
        if len(self.positional) != len(names):
            found = " ".join(self.positional) or "nothing"
            wanted = " ".join(names) or "no argument besides flags"
            raise LsapError(f"expected {wanted}, got {found}; see --help")
        return self.positional

    def some(self, what: str) -> None:
        """Raises LsapError if there is no positional argument."""
        if not self.positional:
            raise LsapError(f"no {what}; name a folder, a glob or files before the flags")

    def no_config(self) -> None:
        """Raises LsapError if `--config.key` was given to a command that has no configuration."""
        for key in self.config:
            raise LsapError(f"--config.{key}: this command has no configuration; see --help")


def new_flags() -> FlagValues:
    """Flags that every command has."""
    values = FlagValues()
    values.set_gnu_getopt(True)
    absl_flags.DEFINE_bool("debug", False, "show the traceback of an error", flag_values=values)
    return values


def text(values: FlagValues, name: str, what: str, default: str | None = None) -> None:
    """Defines a flag that takes a text."""
    absl_flags.DEFINE_string(name, default, what, flag_values=values)


def texts(values: FlagValues, name: str, what: str) -> None:
    """Defines a flag that may be given several times; its value is a list of texts."""
    absl_flags.DEFINE_multi_string(name, [], what, flag_values=values)


def number(values: FlagValues, name: str, what: str, default: int | None = None, lower: int | None = None) -> None:
    """Defines a flag that takes an integer."""
    absl_flags.DEFINE_integer(name, default, what, lower_bound=lower, flag_values=values)


def real(values: FlagValues, name: str, what: str, default: float | None = None) -> None:
    """Defines a flag that takes a number."""
    absl_flags.DEFINE_float(name, default, what, flag_values=values)


def switch(values: FlagValues, name: str, what: str, default: bool = False) -> None:
    """Defines `--name` and `--noname`."""
    absl_flags.DEFINE_bool(name, default, what, flag_values=values)


def choice(values: FlagValues, name: str, options: Sequence[str], what: str, default: str | None = None) -> None:
    """Defines a flag that takes one of several texts."""
    absl_flags.DEFINE_enum(name, default, list(options), what, flag_values=values)


def choice_or_bare(values: FlagValues, name: str, options: Sequence[str], what: str) -> None:
    """Defines a flag that takes one of several texts, or stands alone for the first of them; `--noNAME` is without."""
    absl_flags.DEFINE_flag(_BareFlag(name, None, what, list(options)), flag_values=values)


class _BareFlag(absl_flags.EnumFlag):
    """A flag of `choice_or_bare`."""

    @property
    def alone(self) -> str:
        """What it means without a value."""
        return str(self.parser.enum_values[0])


def numbers(name: str, given: str) -> list[float]:
    """ "-3,0,1.5" of a flag as numbers.

    Raises:
        LsapError: the text is not a list of numbers.
    """
    try:
        return [float(part) for part in given.split(",")]
    except ValueError:
        raise LsapError(f"--{name}={given}: write numbers with commas between, as in -3,0,3") from None


def parse(module: ModuleType, argv: Sequence[str]) -> Arguments | None:
    """Arguments of a command's module; None after `--help`, which is printed.

    Raises:
        LsapError: an unknown flag (the nearest is named), or a value that does not fit.
    """
    values: FlagValues = module.flags()
    if any(a in ("--help", "-h", "-help", "--helpfull") for a in argv[: _end(argv)]):
        print(usage(module, values))
        return None
    rest, config = _take_config(_spelled_out([_underscored(a, values) for a in argv], values))
    try:
        positional = values(["lsap-jax", *rest])[1:]
    except absl_flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, [*values], 1, 0.5)
        hint = f"did you mean --{near[0]}?" if near else "see --help"
        raise LsapError(f"unknown flag --{error.flagname}; {hint}") from None
    except absl_flags.Error as error:
        raise LsapError(str(error)) from None
    return Arguments(positional=tuple(positional), flags=values, config=config)


def usage(module: ModuleType, values: FlagValues) -> str:
    """The text of `lsap-jax COMMAND --help`: an example, the module's docstring and its flags."""
    command = module.__name__.rpartition(".")[2].replace("_", "-")
    example = [f"example: {EXAMPLES[command]}", ""] if command in EXAMPLES else []
    lines = [*example, inspect.cleandoc(module.__doc__ or ""), "", "flags:"]
    for name in sorted(values, key=lambda n: n == "debug"):
        flag = values[name]
        shown = f"--[no]{name}" if flag.boolean else f"--{name}"
        rest = "; also an https:// address" if name in ADDRESSES else ""
        rest += "" if flag.default in (None, False, "", []) else f" (default: {flag.default})"
        lines += textwrap.wrap(f"{shown:18} {flag.help}{rest}", 110, initial_indent="  ", subsequent_indent=" " * 21)
    if "config" in values:
        lines.append("  --config.KEY=VALUE one key of the configuration; `lsap-jax config NAME` explains them")
    return "\n".join(lines)


def configuration(args: Arguments, default: str, shorthands: Mapping[str, Any], key: str) -> "ConfigDict":
    """The configuration of `--config` (or `default`) with `--config.key=value` and shorthand flags applied.

    Args:
        default: name where `--config` is absent.
        shorthands: dotted key -> value of a flag that stands for it; None is not given.
        key: one that every configuration of this command has.

    Raises:
        LsapError: no such configuration or key, one of another command, a wrong type, or a key that is given twice.
    """
    from lsap_jax.configuration import flat, load_config, override

    config = load_config(args.flags.config or default)
    if key not in config:
        raise LsapError(
            f"--config={args.flags.config}: this configuration belongs to another command, as it has no {key!r}"
        )
    known = flat(config)
    values: dict[str, Any] = {}
    for name, typed in args.config.items():
        values[name] = literal(name, typed, known[name]) if name in known else typed
    for name, value in shorthands.items():
        if value is None:
            continue
        if values.get(name, value) != value:
            raise LsapError(
                f"--config.{name}={values[name]} contradicts its shorthand ({value}); give only one of them"
            )
        values[name] = value
    return override(config, values)


def literal(key: str, value: str, old: Any) -> Any:
    """The text of `--config.key=text` as a value of the type of what it replaces.

    Raises:
        LsapError: the text is not a value of that type.
    """
    if isinstance(old, str):
        return value
    if isinstance(old, bool):
        if value.lower() in _TRUTH:
            return _TRUTH[value.lower()]
        raise LsapError(f"--config.{key}={value}: true or false is needed")
    try:
        found = ast.literal_eval(value)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        if old is None:
            return value
        if isinstance(old, tuple):
            return tuple(part.strip() for part in value.split(","))
        raise LsapError(f"--config.{key}={value}: {type(old).__name__} is needed, as in {old!r}") from None
    if isinstance(old, tuple):
        return tuple(found) if isinstance(found, list | tuple) else (found,)
    if isinstance(old, int) and isinstance(found, float) and found.is_integer():
        return int(found)  # 1e6
    return found


def _underscored(item: str, values: FlagValues) -> str:
    """`--batch-size=4` as `--batch_size=4`, where there is such a flag."""
    name, equals, value = item.partition("=")
    known = name.lstrip("-").replace("-", "_")
    return f"--{known}{equals}{value}" if item.startswith("--") and known in values else item


def _spelled_out(argv: Sequence[str], values: FlagValues) -> list[str]:
    """argv with the value of every flag of `choice_or_bare` that stands alone, and without its `--noNAME`."""
    bare = {f"--{name}": flag for name in values if isinstance(flag := values[name], _BareFlag)}
    found: list[str] = []
    for place, item in enumerate(argv):
        following = argv[place + 1] if place + 1 < len(argv) else ""
        if place >= _end(argv):
            found.append(item)
        elif item in bare and following not in bare[item].parser.enum_values:
            found.append(f"{item}={bare[item].alone}")
        elif f"--{item.removeprefix('--no')}" not in bare or not item.startswith("--no"):
            found.append(item)
    return found


def _end(argv: Sequence[str]) -> int:
    return list(argv).index("--") if "--" in argv else len(argv)


def _take_config(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """argv without `--config.key=value` and `--config.key value`, and those as a dict."""
    rest: list[str] = []
    config: dict[str, str] = {}
    end = _end(argv)
    items = iter(argv[:end])
    for item in items:
        name, equals, value = item.lstrip("-").partition("=")
        if not item.startswith("-") or not name.startswith("config."):
            rest.append(item)
            continue
        if not equals:
            following = next(items, None)
            if following is None:
                raise LsapError(f"--{name} has no value; write --{name}=value")
            value = following
        config[name.removeprefix("config.")] = value
    return [*rest, *argv[end:]], config
