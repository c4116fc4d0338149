"""What a person does with a model or a file of their own."""
