"""Every replacement of other people's code, each for as long as a block lasts."""
