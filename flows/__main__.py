"""`python -m flows` is `kitestring`, for where the command is not on the path."""

from flows.command_line.cli import main

main()
