"""Where codes live. A space is one small object: start, decode, retract, move; `parse_space` makes it from its name."""

from lsap_jax.spaces.space import Space, parse_space, space_from_config

__all__ = ["Space", "parse_space", "space_from_config"]
