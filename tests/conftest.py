"""Makes the modules beside this file (`definitions`, `streams`) importable from every suite."""
