"""Other tools' formats: reading runs from their logs, writing runs, pairs and paths for their trainers."""
