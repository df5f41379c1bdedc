"""Figures and pages from plain data."""
