"""From a model and a loader to class moments."""
