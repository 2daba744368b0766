"""`python -m a2lc`."""

from a2lc.cli import main

main()
