"""Voltages and fluorescence over time: files, spikes, and simulations with everything known."""
