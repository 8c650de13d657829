"""Reports: what the records show, as data; commands and pages render them."""
