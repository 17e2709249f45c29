"""Publishing: `push` brings a checkpoint with its card and code to the Hub, `cards` renders cards from records."""
