"""The `kitestring` command: options, output, progress, and running flows."""
