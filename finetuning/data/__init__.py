"""Labelled data in the forms they come in: read, checked, and split."""
