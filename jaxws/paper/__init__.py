"""The paper's tables as data, and what turns them into runs, searches and reports."""
