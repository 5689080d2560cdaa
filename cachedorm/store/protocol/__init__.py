"""The coherence protocol as values: entries, keys, slots, changes, intents, interests."""
