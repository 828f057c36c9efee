"""Every replacement of other people's code: a file for each, listed in all_patches, applied by `patched`."""
