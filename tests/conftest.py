"""Makes the modules beside this file (`definitions`) importable from every suite."""
