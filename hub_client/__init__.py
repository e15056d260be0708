"""Sources of model files and the verified way from there to here."""
