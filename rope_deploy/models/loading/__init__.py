"""Find a model, refuse what is unsafe, load it, and read what its configuration states of the rotation."""
