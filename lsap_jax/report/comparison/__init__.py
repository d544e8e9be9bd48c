"""Several presets on the same images: one run folder each, and the tables, tests and pictures that compare them."""
