"""What can be learned of an example: one class, several labels, or numbers."""
