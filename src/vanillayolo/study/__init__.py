"""Measuring and comparing. What measures and what renders are kept apart."""
