"""Training of generators and of base-code encoders."""
