"""Raising: rotations are matched by what they compute, tabulated, and replaced by `Rope` markers."""
