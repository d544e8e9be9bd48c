"""Configurations. In a checkout they lie in `configs/` beside the package; setup.py installs that folder here."""

from pathlib import Path

__path__ = [str(Path(__file__).resolve().parents[2] / "configs")]
