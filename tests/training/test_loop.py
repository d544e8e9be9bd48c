"""The loop of every training: progress, and checkpoints between snapshots."""

import jax.numpy as jnp
import pytest

from lsap_jax.training import loop
from lsap_jax.training.loop import progress, resumable

IMAGES = (16, 8, 2)  # in all, between snapshots, in a step


def training(out, steps=99):
    """(x at the end, images seen at snapshots, their mean losses, lines of progress); it dies before step `steps`."""
    shown, lines = [], []

    def advance(state, step):
        if step == steps:
            raise KeyboardInterrupt
        return {"x": state["x"] * 2 + step}, {"loss": jnp.float32(step)}

    def show(state, seen, means):
        shown.append((seen, means["loss"]))

    state, seen = resumable(out, {"x": jnp.int32(1)}, advance, show, IMAGES, lines.append)
    assert seen == IMAGES[0]
    return int(state["x"]), shown, lines


def test_a_kill_between_snapshots_costs_what_came_after_the_newest_checkpoint(tmp_path, monkeypatch):
    whole = training(tmp_path / "whole")
    assert whole[1] == [(8, 1.5), (16, 5.5)] and not whole[2], "a minute has not passed"
    monkeypatch.setattr(loop, "KEPT", -1.0)
    with pytest.raises(KeyboardInterrupt):
        training(tmp_path / "killed", steps=7)
    resumed = training(tmp_path / "killed")
    assert resumed[2] == ["going on from 14 images"]
    assert resumed[0] == whole[0] and resumed[1] == [(16, 7.0)], "of the steps since it went on"


def test_progress_is_told_between_snapshots(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "TOLD", -1.0)
    lines = training(tmp_path)[2]
    assert [line.split(" images")[0] for line in lines] == [f"{seen} of 16" for seen in range(2, 16, 2)]
    assert progress(1600, 40000, 20.04) == "1,600 of 40,000 images, 20 a second, 32 min left"
    assert progress(39_990, 40_000, 0.5).endswith(" 1 min left")
