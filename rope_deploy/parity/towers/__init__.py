"""Towers: what they are fed, and how their rotations are judged where no rule is stated."""
