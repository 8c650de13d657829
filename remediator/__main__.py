"""Run the command line: ``python -m remediator``."""

from remediator.cli.main import main

main()
