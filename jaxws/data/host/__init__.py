"""Large data sets, on disk: decoded and cut on the host, ahead of the step."""
