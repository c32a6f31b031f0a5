"""What ``python -m jaxws NAME`` runs, one file for each name."""
