"""The PyTorch model as the reference of every comparison: patched, untouched, in a wider type, perturbed."""
