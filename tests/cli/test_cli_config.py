"""`lsap-jax config`, nearest keys, and the examples of `--help`."""

import shlex
from fnmatch import fnmatchcase
from importlib import import_module

import pytest
from lsap_jax.configs._keys import KEYS

from lsap_jax.cli import COMMANDS, main
from lsap_jax.cli.arguments import parse
from lsap_jax.cli.examples import EXAMPLES
from lsap_jax.configuration import config_names, explained, flat, load_config, nearest
from lsap_jax.errors import LsapError
from lsap_jax.refinement.methods import REFINERS, checked_options


def printed(capsys, *argv):
    assert main(list(argv)) == 0
    return capsys.readouterr().out


def test_every_key_of_every_configuration_is_explained():
    keys = {key for name in config_names() for key in flat(load_config(name))}
    keys |= {f"refine.{key}" for method in REFINERS.values() for key in method.options}
    assert not [key for key in sorted(keys) if not explained(key)]
    # ... and nothing is explained that is not there.
    assert all(any(fnmatchcase(key, pattern) for key in keys) for pattern in KEYS)
    assert all(0 < len(line) <= 100 and "\n" not in line for line in KEYS.values())


def test_keys_are_printed_with_default_type_and_line(capsys):
    out = printed(capsys, "config", "f/z+")
    assert len(out.splitlines()) >= len(flat(load_config("f/z+")))
    row = next(line for line in out.splitlines() if line.startswith("optimizer.lr "))
    assert row.split(maxsplit=3) == ["optimizer.lr", "0.01", "float", KEYS["optimizer.lr"]]
    assert max(map(len, out.splitlines())) <= 120
    for name in ("train_styleres", "compare", "edit_quality", "toonhead64"):
        assert len(printed(capsys, "config", name).splitlines()) >= len(flat(load_config(name)))


def test_options_of_methods_are_keys(capsys):
    assert "refine.method " in (out := printed(capsys, "config", "f_zplus_pti")) and "refine.locality_alpha" in out
    out = printed(capsys, "config", "sam")
    assert {line.split()[0] for line in out.splitlines() if line.startswith("refine")} == {
        f"refine.{key}" for key in REFINERS["sam"].options
    }


def test_a_method_without_options_says_so(capsys):
    assert not REFINERS["hfgi"].options and main(["config", "hfgi"]) == 2
    assert capsys.readouterr().err == "lsap-jax config: hfgi: this method of refinement has no options\n"


def test_search_and_the_list_of_configurations(capsys):
    keys = [line.split()[0] for line in printed(capsys, "config", "z+", "--search", "LR").splitlines()]
    assert keys == ["optimizer.lr", "optimizer.lr_f"]
    names = [line.split()[0] for line in printed(capsys, "config").splitlines() if not line.startswith(" ")]
    assert names == config_names()
    assert main(["config", "z+", "--search", "nothing like it"]) == 2
    assert "no name and no line" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("lr", "optimizer.lr"),
        ("loss.percptual", "loss.perceptual"),
        ("stesp", "steps"),
        ("optimiser.lr", "optimizer.lr"),
        ("qqqqqq", None),
    ],
)
def test_the_nearest_key(key, meant):
    assert nearest(key, flat(load_config("f/z+"))) == meant


def test_an_unknown_key_names_the_nearest_one(capsys):
    argv = ["invert", "photos", "--generator", "toonhead64", "--out", "o"]
    for key, words in {
        "stesp": "'stesp'; did you mean steps? `lsap-jax config NAME` explains all keys",
        "loss.percptual": "'loss.percptual'; did you mean loss.perceptual? there are loss.base, ",
        "optimiser.lr": "'optimiser.lr'; did you mean optimizer.lr?",
    }.items():
        assert main([*argv, f"--config.{key}=3"]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(LsapError, match="no option 'stpes'; did you mean steps\\? its options: steps, "):
        checked_options("pti", {"stpes": 3})
    with pytest.raises(LsapError, match="did you mean f_zplus\\?"):
        load_config("f_zpus")


def test_every_command_has_an_example_that_parses(capsys):
    assert COMMANDS.keys() == EXAMPLES.keys()
    for name, example in EXAMPLES.items():
        program, command, *argv = shlex.split(example)
        assert (program, command) == ("lsap-jax", name)
        args = parse(import_module(f"lsap_jax.cli.{name.replace('-', '_')}"), argv)
        assert args is not None
        if (key := args.flags["config"].value if "config" in args.flags else None) is not None:
            known = flat(load_config(key))
            assert args.config.keys() <= known.keys()
        text = printed(capsys, name, "--help")
        assert text.startswith(f"example: {example}\n\n")
        assert ("`lsap-jax config NAME` explains" in text) == ("config" in args.flags)
