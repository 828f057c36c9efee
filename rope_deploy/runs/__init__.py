"""Whole commands: each opens what it is given, has it exported, checked, timed or built, and collects one report.

Import from the modules: a check without PyTorch must not load the ones that need it.
"""
