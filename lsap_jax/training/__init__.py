"""Training of generators, encoders and classifiers."""
