"""What a measurement costs as data, classes, dimensions and machines grow."""
