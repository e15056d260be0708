"""What a run says of its model: one class, several labels, or numbers."""
