"""Tests of playbooks: ``*.test.yaml`` beside them, played on a virtual clock through the engine itself.

What is said (alerts, what checks and actions answer, what people decide) is the world; matching, guards, approvals,
steps, verification and messages are those of production. ``remediator test`` is the command.
"""
