"""The command line. ``main.py`` is the list of commands; each has a file of its own."""
