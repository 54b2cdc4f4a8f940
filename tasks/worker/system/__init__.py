"""The process that a rank is: its device and threads, signals, memory, imports."""
