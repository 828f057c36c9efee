"""Passes that change a graph and keep what it computes: one file and one test each."""
