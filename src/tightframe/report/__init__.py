"""The report: records, and nothing else, become one HTML page and its figures."""
