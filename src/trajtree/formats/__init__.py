"""Other people's formats: reading runs in, writing runs, pairs and paths out."""
