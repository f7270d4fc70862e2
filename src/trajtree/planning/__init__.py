"""What a recipe takes, before any of it runs."""
