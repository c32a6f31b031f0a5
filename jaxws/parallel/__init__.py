"""Many devices and many processes for one run."""
