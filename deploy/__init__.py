"""How the whole runs: on this machine (``local``), by Compose, on Kubernetes."""
