"""Passes change a graph and keep what it computes: one class a file, one test file each; `sequences` orders them."""
