"""One network trained on one data set and watched while it collapses: what jobs and experiments share."""
