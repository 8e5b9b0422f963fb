"""Figures, tables and summaries of finished runs, from their folders alone."""
