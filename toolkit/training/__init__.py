"""Training: one file a method, our collator, and the callback that takes readings."""
