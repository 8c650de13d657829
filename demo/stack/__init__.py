"""``make demo``: the whole stack, real faults, and what becomes of them, told as it happens."""
