"""Names of layers are made and taken apart in the folder of their grammar alone: all else reads `config.layers`."""

import ast
import re
from pathlib import Path

import pytest

from lsap_jax.networks.stylegan2 import GeneratorConfig

PACKAGE = Path(__file__).resolve().parents[2] / "lsap_jax"
PART = re.compile(r"torgb|conv[01]|^b\d+\.|^\.styles$")
# Where names with dots are keys of configurations and records; storage knows nothing of networks.
NAMELESS = ("networks", "storage", "configuration.py")


def names_of_layers(path: Path) -> list[str]:
    """Lines of a module that spell a part of a layer's name, or split a text at its dots."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if PART.search(text) and id(node) not in prose:
                found.append(f"{path}:{node.lineno} spells {text!r}")
            case ast.Call(func=ast.Attribute(attr="split" | "rsplit"), args=[ast.Constant(value="."), *_]):
                found.append(f"{path}:{node.lineno} splits a text at its dots")
    return found


def test_nobody_above_the_networks_builds_or_splits_names_of_layers():
    above = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] not in NAMELESS]
    assert len(above) > 100 and not [line for path in above for line in names_of_layers(path)]


def test_no_other_network_splits_names_of_layers():
    """They have layers with names of their own, but do not take names apart."""
    others = [path for path in (PACKAGE / "networks").rglob("*.py") if path.parent.name != "stylegan2"]
    assert not [line for path in others for line in names_of_layers(path) if "splits" in line]


@pytest.mark.parametrize(
    "line", ['x = f"b{r}.conv0"', 'x = y.endswith("torgb")', 'x, y = z[1:].split(".")', 'x = y["b8.conv1"]']
)
def test_such_a_line_is_seen(line, tmp_path):
    module = tmp_path / "module.py"
    module.write_text(f'"""Of b8.conv0."""\n{line}\n')
    assert len(names_of_layers(module)) == 1


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_the_table(architecture):
    config = GeneratorConfig(img_resolution=16, channels=(9, 7, 5), architecture=architecture, img_channels=3)
    rows = [(x.name, x.row, x.width, x.channels, x.resolution, x.kind) for x in config.layers]
    table = [
        ("b4.conv1", 0, 9, 9, 4, "conv"),
        ("b4.torgb", 1, 9, 3, 4, "torgb"),
        ("b8.conv0", 1, 9, 7, 8, "conv"),
        ("b8.conv1", 2, 7, 7, 8, "conv"),
        ("b8.torgb", 3, 7, 3, 8, "torgb"),
        ("b16.conv0", 3, 7, 5, 16, "conv"),
        ("b16.conv1", 4, 5, 5, 16, "conv"),
        ("b16.torgb", 5, 5, 3, 16, "torgb"),
    ]
    skip = architecture == "skip"
    assert rows == [row for row in table if skip or row[-1] == "conv" or row[0] == "b16.torgb"]
    assert [x.row for x in config.row_layers] == list(range(config.num_ws))
    assert config.noise_layers == {x.name: x.resolution for x in config.layers if x.kind == "conv"}
    names = {resolution: layer.name for resolution, layer in config.entries.items()}
    assert names == ({4: "b4.conv1", 8: "b8.conv0", 16: "b16.conv0"} if skip else {})
    assert config.live_layers() == config.layers
    if skip:
        assert [x.name for x in config.live_layers(8)] == [row[0] for row in table[3:]]
        assert [x.name for x in config.live_layers(4)] == [row[0] for row in table[1:]]
    assert hash(config) == hash(GeneratorConfig(**{f: getattr(config, f) for f in config.__dataclass_fields__}))
