"""The report over a period: statistics, and their rendering as HTML, Markdown and JSON."""
