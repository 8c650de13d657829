"""The pipeline without real time and without servers: an event loop with a virtual clock, and a store in memory."""
