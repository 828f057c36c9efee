"""Lower: every marker becomes what the asked style writes. `lowerings` lists the functions, one file a style."""
