"""What is measured on a model: one file a probe."""
