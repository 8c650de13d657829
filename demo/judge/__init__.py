"""Judge the shipped playbooks: make each fault on real servers, and record causes, actions and harm."""
