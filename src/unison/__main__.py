"""`python -m unison`: the command line."""

from unison.cli.main import main

main()
