"""The commands, one file a subject. Their bodies are thin; whatever is heavy is imported inside them."""
