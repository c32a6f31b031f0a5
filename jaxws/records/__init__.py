"""What a run leaves and shows: its directory, metrics, provenance, progress, plots, report."""
