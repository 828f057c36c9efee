"""Every replacement of other people's code: a file for each, listed in all_patches, applied by `patched`.

Raises, when patches are put in place: EnvironmentMissing, where the target of one has changed or is gone. Raises, when
what is ours runs: ModelError, for what a model gives its attention and ours cannot do, and for weights in a pickle.
"""
