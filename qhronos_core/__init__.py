"""Qhronos: the domain, the stores and the scheduler."""
