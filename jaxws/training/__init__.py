"""Training: the step as pure functions, and the loop from a configuration to a trained network."""
