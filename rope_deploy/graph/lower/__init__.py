"""Lower: every `Rope` marker becomes what the asked style writes. `styles` lists the styles, one file writes each."""
