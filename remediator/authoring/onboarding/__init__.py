"""The first minutes of an author: look at what runs here, and write a first set of files for it."""
