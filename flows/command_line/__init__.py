"""The `kitestring` command: its options, its answers, its progress line, and running a flow from it."""
