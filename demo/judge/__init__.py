"""Judge the shipped playbooks: make each fault on real servers, and measure what was named, done and harmed."""
