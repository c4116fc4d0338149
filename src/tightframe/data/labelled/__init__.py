"""Labelled images: bundled, from files and folders, from the hub; noise on labels, random changes of images."""
