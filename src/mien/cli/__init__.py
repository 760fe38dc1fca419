"""The command line, thin: parse, call one library function, print."""
