"""The command line. Each command or group of commands has a module of its name; helpers begin with an underscore."""
