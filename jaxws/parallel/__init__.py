"""Runs over several devices and processes: meshes, what lies where, and who does what."""
