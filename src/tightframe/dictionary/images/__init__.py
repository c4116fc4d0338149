"""Images restored by dictionaries learned on their own patches."""
