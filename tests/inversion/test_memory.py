"""The largest batch that fits, by the compiler's account, and what is said where one does not."""

from types import SimpleNamespace

import jax
import pytest
from PIL import Image

from lsap_jax.cli import main
from lsap_jax.configuration import load_config
from lsap_jax.errors import LsapError
from lsap_jax.inversion import memory
from lsap_jax.inversion.inverter import Inverter
from lsap_jax.storage.results import read_run
from lsap_jax.testing import tiny_generator, tiny_images

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def inverter(quick_compilation, tiny):
    return Inverter(tiny, load_config("z+", {"steps": 2, "batch_size": 2}))


@pytest.fixture(scope="module")
def used(inverter):
    return {n: memory.step_bytes(inverter, n) for n in (2, 6, 16)}


@pytest.mark.slow
def test_memory_is_a_constant_and_a_part_per_image(used):
    per_image = (used[6] - used[2]) / 4
    assert per_image > 16 * 16 * 3 * 4  # an image alone takes as much
    assert used[16] == pytest.approx(used[2] + 14 * per_image, rel=0.1)


def test_the_largest_batch_fits_and_hardly_more_would(inverter, used, monkeypatch):
    def offer(count):
        monkeypatch.setattr(memory, "free_bytes", lambda device, devices: used[count] / memory.SHARE)
        return memory.largest_batch(inverter, 1000)

    devices = len(inverter.devices)
    assert devices == 2
    found = offer(16)
    assert found % devices == 0 and 14 <= found // devices <= 16
    assert offer(2) == 2 * devices
    assert memory.largest_batch(inverter, 3) == 3  # no more than there are
    monkeypatch.setattr(memory, "free_bytes", lambda device, devices: used[2] / 2)
    with pytest.raises(LsapError, match=r"one image per device takes .* GiB are free for it"):
        memory.largest_batch(inverter, 1000)


def test_an_estimate_that_was_too_high_is_corrected(inverter, monkeypatch):
    """Programs whose need bends upwards: the line through two small ones promises too much."""
    monkeypatch.setattr(memory, "step_bytes", lambda _, n: 1000 * n + n**2)
    monkeypatch.setattr(memory, "free_bytes", lambda device, devices: 200_000 / memory.SHARE)
    count = memory.largest_batch(inverter, 10_000) // len(inverter.devices)
    assert 1000 * count + count**2 <= 200_000 and count >= 160  # 171 would be the most


def test_what_follows_the_steps_has_to_fit_too(inverter, monkeypatch):
    def following(n):
        return SimpleNamespace(
            memory_analysis=lambda: SimpleNamespace(
                argument_size_in_bytes=2000 * n, output_size_in_bytes=0, alias_size_in_bytes=0, temp_size_in_bytes=100
            )
        )

    monkeypatch.setattr(memory, "step_bytes", lambda _, n: 1000 * n)
    monkeypatch.setattr(memory, "free_bytes", lambda device, devices: 100_000 / memory.SHARE)
    devices = len(inverter.devices)
    assert memory.largest_batch(inverter, 10_000) == 100 * devices
    assert memory.largest_batch(inverter, 10_000, following) == 49 * devices


class Device:
    platform = "gpu"

    def __init__(self, stats):
        self.stats = stats

    def memory_stats(self):
        return self.stats


def test_free_memory_of_devices(tmp_path, monkeypatch):
    assert memory.free_bytes(Device({"bytes_limit": 100, "bytes_in_use": 30}), 8) == 70
    with pytest.raises(LsapError, match="give --batch_size a number"):
        memory.free_bytes(Device(None), 1)
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable: 8 kB\n")
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "meminfo")
    assert memory.free_bytes(jax.devices("cpu")[0], 2) == 4096
    monkeypatch.setattr(memory, "MEMORY_FILE", tmp_path / "nowhere")
    with pytest.raises(LsapError, match="does not report how much memory"):
        memory.free_bytes(jax.devices("cpu")[0], 2)


def test_the_command_finds_keeps_and_names_batch_sizes(tmp_path, monkeypatch, capsys):
    tiny_generator(discriminator=False).save(tmp_path / "g.safetensors")
    for i, image in enumerate(tiny_images(3)):
        Image.fromarray(image).save(tmp_path / f"{i}.png")

    def invert(*more, out="run"):
        argv = ["invert", tmp_path / "*.png", "--generator", tmp_path / "g.safetensors", "--space=z+", "--steps=2"]
        return main([str(a) for a in (*argv, "--out", tmp_path / out, *more)])

    monkeypatch.setattr(memory, "largest_batch", lambda inverter, images: min(images, 2))
    assert invert("--batch_size=auto") == 0
    assert "batch size 2" in capsys.readouterr().err
    monkeypatch.setattr(memory, "largest_batch", lambda inverter, images: pytest.fail("it was begun already"))
    assert invert("--batch_size=auto") == 0 and read_run(tmp_path / "run")["config"]["batch_size"] == 2
    assert invert("--batch_size=many") == 2
    assert "batch_size=many: int is needed" in capsys.readouterr().err

    def breaks(*_, **__):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")

    monkeypatch.setattr("lsap_jax.inversion.inverter.Inverter.advance", breaks)
    monkeypatch.setattr(memory, "largest_batch", lambda inverter, images: images - 1)
    assert invert("--batch_size=12", out="large") == 2  # of which the three images take three
    assert "batch_size=3 does not fit into the memory of the device; 1 would" in capsys.readouterr().err
    assert invert("--batch_size=1", out="small") == 2
    assert "the device ran out of memory" in capsys.readouterr().err
