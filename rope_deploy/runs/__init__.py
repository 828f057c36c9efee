"""Whole runs: open what is asked for, let parity, bench and generation judge it, and collect one report.

Import from the modules: a check without PyTorch must not load the ones that need it.
"""
