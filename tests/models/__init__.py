"""Models: configuration, the small transformer, every loader, and the facts known without torch."""
