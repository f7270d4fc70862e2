"""What several commands share: options, what they take, and what is done with it."""
