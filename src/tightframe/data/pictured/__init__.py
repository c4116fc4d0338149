"""Single images and movies: files, surfaces under the microscope, the test images of restoration."""
