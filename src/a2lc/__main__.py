"""`python -m a2lc`."""

from a2lc.cli.app import main

main()
