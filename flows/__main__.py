"""`python -m flows` is `kitestring`, for environments where the command is not on the path."""

from flows.command_line.cli import main

main()
