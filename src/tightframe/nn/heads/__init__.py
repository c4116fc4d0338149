"""Last layers: fixed, aligned and normalised ones, and how a model gets one."""
