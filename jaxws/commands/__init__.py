"""One module for each command of `python -m jaxws`: `add_arguments(parser)` and `run(args)`."""
