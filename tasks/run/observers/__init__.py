"""Those who hear of a run besides Prefect: its own checkpoint, a collector of metrics, a catalogue of data."""
