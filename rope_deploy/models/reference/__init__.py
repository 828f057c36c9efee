"""The PyTorch model as the reference of every comparison: as exported, untouched, in a wider type, shaken."""
