"""Reports of results beside the paper's numbers, as Markdown, HTML and CSV."""
