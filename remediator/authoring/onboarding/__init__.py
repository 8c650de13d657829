"""The first minutes of an author: find the services on this host, and write a first set of files for them."""
