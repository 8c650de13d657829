"""Files of a service on its volume: on this host, or through an agent in the pod of the service."""
