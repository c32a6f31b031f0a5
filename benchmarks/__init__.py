"""Speed and memory of jaxws beside its peers; see benchmarks/README.md."""
