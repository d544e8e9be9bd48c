"""The page and the tables of `lsap-jax edit-quality`."""
