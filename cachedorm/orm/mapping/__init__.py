"""From mapped rows to entries and back: plans, key values, hydration."""
