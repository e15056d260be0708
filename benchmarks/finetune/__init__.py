"""Fine-tuning beside other tools, on real labelled data."""
