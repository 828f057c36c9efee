"""The command line: parse, call one function of `rope_deploy.api`, render. One file per command."""
