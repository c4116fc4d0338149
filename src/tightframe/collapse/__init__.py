"""Neural collapse metrics NC1 to NC4, computed from class moments."""
