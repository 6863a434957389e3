"""`python -m duotrack` is the `duotrack` command."""

from duotrack.cli import main

main()
