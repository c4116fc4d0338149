"""Every file reader against damaged, misleading and hostile files: what is read is right, the rest refused in words."""
