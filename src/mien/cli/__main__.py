"""`python -m mien.cli`."""

from mien.cli.main import main

main()
